// Package shuffle groups, sorts, partitions and aggregates more records than fit
// in memory, typed, and within one limit of memory.
//
//   - [Sort] orders records by any number of keys, stably.
//   - [GroupBy] hands out each group's values; a group may be larger than memory.
//   - [Aggregate] keeps an accumulator of the caller's for each key, combined in
//     memory before anything is written.
//   - [Join] brings the records of two sides together that have the same key.
//   - [Partition] and [PartitionBy] divide records, to be read back a part at a time.
//   - [Distinct] and [DistinctBy] leave each record, or key, once; [TopK] leaves
//     the first k in an order.
//
// Each takes an iterator of records with errors and gives one. An error of the
// input ends everything and comes out again. Where several goroutines have
// records, each of these has a second form: [NewSorter], [NewGrouper],
// [NewAggregator], [NewJoiner], [NewPartitions], [NewDeduplicator] and [NewTop] return something that is
// fed through any number of [Feed]s at once, or by [FeedAll] from several goroutines.
// [Grouper.ForEach] and [Partitions.ForEach] hand groups to several goroutines.
// Options.Progress tells how far all this is.
//
// Where several processes have records, [Begin] gives each of them a [Writer] of one
// store, of which what was committed is read by [ReadCommitted], whatever died on the way.
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
	"cmp"
	"errors"
	"fmt"
	"iter"
	"runtime"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/spill"
	"github.com/go-partd/partd/internal/tempdir"
)

// Limits of the options.
const (
	DefaultMemory = spill.DefaultMemory
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
	// Codec encodes the records. The zero value means the [DefaultCodec]. Aggregate
	// stores no records, and needs none.
	Codec Codec[T]
	// Progress is told how far the work is: by feeds and readers, from the goroutine
	// that adds or reads, after some 256 records or 256 KiB of it, if nobody was told
	// within the last tenth of a second; and always when a feed is closed and when a
	// loop over results ends, with all that this one did. There is one call at a
	// time, and who adds or reads waits for it: it should be short. Between the last
	// feed and the first result there is none. It may ask for [Stats].
	Progress func(Progress)
}

// Stats tell what was done so far. They are complete once everything was read.
type Stats struct {
	Records int64 // put in
	Groups  int64 // that came out, where there are groups
	Spilled int64 // bytes written to temporary files by sorting and aggregating
}

var (
	// ErrNotVerified is wrapped by the error where what came out is not what went in.
	ErrNotVerified = ledger.ErrNotVerified
	// ErrClosed is wrapped by the error of what is asked of something closed, and
	// wraps [partd.ErrClosed]. Keys and records that are too large for the memory or
	// for a store are errors that wrap [partd.ErrTooLarge].
	ErrClosed = spill.ErrClosed
)

type config[T any] struct {
	Options[T] // with all defaults, but for Store
	temp       *tempdir.Set
	meter      *meter // nil without Progress
}

func (o *Options[T]) orDefault() (opts Options[T]) {
	if o != nil {
		opts = *o
	}
	return opts
}

// single is for one goroutine that feeds, which so may have the memory of all.
func (o *Options[T]) single() *Options[T] {
	one := o.orDefault()
	if one.Threads >= 0 {
		one.Threads = 1
	}
	return &one
}

// withoutStore is resolve for what does not use a store.
func (o *Options[T]) withoutStore() (config[T], error) {
	if o != nil && o.Store != nil {
		return config[T]{}, errors.New("option Store: only GroupBy and Partition use a store")
	}
	return o.resolve()
}

func (o *Options[T]) resolve() (c config[T], err error) {
	c.Options = o.orDefault()
	c.meter = newMeter(c.Progress)
	c.Memory = cmp.Or(c.Memory, DefaultMemory)
	c.Threads = cmp.Or(c.Threads, runtime.GOMAXPROCS(0))
	switch {
	case c.Memory < MinMemory:
		return c, fmt.Errorf("option Memory is %d bytes: it must be %d at least", c.Memory, MinMemory)
	case c.Threads < 0:
		return c, fmt.Errorf("option Threads is %d: it must be positive", c.Threads)
	}
	c.Memory = max(c.Memory, int64(c.Threads+1)<<20)
	if c.Codec, err = o.codec(); err != nil {
		return c, err
	}
	c.temp, err = tempdir.New(c.TempDirs, nil)
	return c, err
}

// codec returns the codec of records.
func (o *Options[T]) codec() (Codec[T], error) {
	c := o.orDefault().Codec
	switch {
	case (c.Encode == nil) != (c.Decode == nil):
		return c, errors.New("option Codec has one function: it needs two, Encode and Decode")
	case c.Encode == nil:
		return DefaultCodec[T]()
	}
	return c, nil
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
