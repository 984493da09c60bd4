// Package shuffle groups, sorts, partitions and aggregates more records than fit
// in memory, typed, and within one limit of memory.
//
//   - [Sort] orders records by any number of keys, stably.
//   - [GroupBy] hands out each group's values; a group may be larger than memory.
//   - [Aggregate] keeps an accumulator of the caller's for each key, combined in
//     memory before anything is written.
//   - [Partition] and [PartitionBy] divide records, to be read back a part at a time.
//   - [Distinct] and [DistinctBy] leave each record, or key, once; [TopK] leaves
//     the first k in an order.
//
// Each takes an iterator of records with errors and gives one. An error of the
// input ends everything and comes out again. Where several goroutines have
// records, each of these has a second form: [NewSorter], [NewGrouper],
// [NewAggregator], [NewPartitioner], [NewDistinct] and [NewTop] return something that is
// fed through any number of [Feed]s at once.
//
// What does not fit in memory goes to temporary directories that the process
// owns; they are removed at the end, and those of a process that died by the next
// one. The end of the context ends everything, with its error.
//
// Every run proves itself: the number of records and a checksum over them are
// compared between what went in and what came out, and a difference is an error
// that wraps [ErrNotVerified], after the last record. Who stops reading before
// the end has not verified anything.
package shuffle

import (
	"errors"
	"fmt"
	"iter"
	"runtime"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/tempdir"
)

// Limits of the options.
const (
	DefaultMemory = 256 << 20
	MinMemory     = 8 << 20
)

// Options say with what means to work. T is the type of the records. The zero
// value, and nil, are the defaults.
type Options[T any] struct {
	// Memory bounds what is held in memory for the records, in bytes, with all
	// that keeps them in order. 0 means [DefaultMemory]; at least [MinMemory].
	Memory int64
	// Threads is how many processors sorting and merging may use. 0 means
	// GOMAXPROCS.
	Threads int
	// TempDirs are the directories for temporary data, used in turn. None means
	// os.TempDir.
	TempDirs []string
	// Store is where GroupBy and Partition put the records. It has to be empty,
	// and what is in it afterwards is the caller's. nil means a temporary
	// log-structured store. Sorting, aggregating, Distinct and TopK keep what does
	// not fit in files of their own kind, and refuse a store.
	Store partd.Partd
	// Codec encodes the records. nil means the [DefaultSpillCodec]. Aggregate stores no
	// records, and needs none.
	Codec SpillCodec[T]
}

// Stats tell what was done so far. They are complete once everything was read.
type Stats struct {
	Records int64 // put in
	Groups  int64 // that came out, where there are groups
	Spilled int64 // bytes written to temporary files by sorting and aggregating
}

var (
	// ErrNotVerified is wrapped by the error where what came out is not what went in.
	ErrNotVerified = errors.New("what came out is not what went in")
	// ErrClosed is wrapped by the error of what is asked of something closed.
	ErrClosed = errors.New("it is closed")
)

// config is what options come to.
type config[T any] struct {
	memory  int64
	threads int
	temp    *tempdir.Set
	store   partd.Partd
	codec   SpillCodec[T]
}

// withoutStore is resolve for what does not use a store.
func (o *Options[T]) withoutStore() (config[T], error) {
	if o != nil && o.Store != nil {
		return config[T]{}, errors.New("option Store: only GroupBy and Partition use a store")
	}
	return o.resolve()
}

func (o *Options[T]) resolve() (config[T], error) {
	var opts Options[T]
	if o != nil {
		opts = *o
	}
	c := config[T]{memory: opts.Memory, threads: opts.Threads, store: opts.Store, codec: opts.Codec}
	if c.memory == 0 {
		c.memory = DefaultMemory
	}
	if c.threads == 0 {
		c.threads = runtime.GOMAXPROCS(0)
	}
	switch {
	case c.memory < MinMemory:
		return c, fmt.Errorf("option Memory is %d bytes: it must be %d at least", c.memory, MinMemory)
	case c.threads < 0:
		return c, fmt.Errorf("option Threads is %d: it must be positive", c.threads)
	}
	c.memory = max(c.memory, int64(c.threads+1)<<20)
	if c.codec == nil {
		var err error
		if c.codec, err = DefaultSpillCodec[T](); err != nil {
			return c, err
		}
	}
	var err error
	c.temp, err = tempdir.New(opts.TempDirs, nil)
	return c, err
}

// Values returns an iterator over values, without errors.
func Values[T any](values ...T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range values {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// Collect returns all values of an iterator, or its first error.
func Collect[T any](seq iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for v, err := range seq {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}
