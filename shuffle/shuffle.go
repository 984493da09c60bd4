// Package shuffle groups, sorts, partitions and aggregates more typed records
// than fit in memory, within one memory limit.
//
//   - [Sort] orders records by any number of keys, stably.
//   - [GroupBy] yields each group's values; a group may be larger than memory.
//   - [Aggregate] keeps one of the caller's accumulators for each key, and combines
//     records in memory before it writes anything.
//   - [Join] brings together the records of two sides that have the same key.
//   - [Partition] and [PartitionBy] divide records into parts that can be read
//     back one at a time.
//   - [Distinct] and [DistinctBy] keep each record, or key, once; [TopK] keeps the
//     first k in an order.
//
// Each function takes an iterator of records and errors, and returns one. An input error
// ends everything and is returned. If several goroutines produce records, use the second
// form of each function: [NewSorter], [NewGrouper], [NewAggregator], [NewJoiner],
// [NewPartitions], [NewDeduplicator] and [NewTop] return a value to feed through any number
// of concurrent [Feed]s, or by [FeedAll] from several goroutines. [Grouper.ForEach] and
// [Partitions.ForEach] hand groups to several goroutines. Options.Progress reports
// progress.
//
// If several processes produce records, [Begin] gives each of them a [Writer] to one
// shared store. [ReadCommitted] reads exactly what was committed, whichever processes died
// on the way.
//
// Records that do not fit in memory go to temporary directories that the process
// owns. It removes them at the end; if it dies, the next process does. When the
// context ends, everything ends with its error.
//
// Every run verifies itself: it compares the number and a checksum of the
// records that went in with those that came out, and reports a difference after
// the last record, as an error that wraps [ErrNotVerified]. A caller that stops
// reading early has verified nothing.
package shuffle

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/spill"
	"github.com/go-partd/partd/internal/tempdir"
)

// Limits of the options.
const (
	DefaultMemory = spill.DefaultMemory
	MinMemory     = 8 << 20
)

// Options sets the resources to work with. T is the type of the records. The
// zero value and nil mean the defaults.
type Options[T any] struct {
	// Memory limits the memory for the records and everything that keeps them
	// in order, in bytes. 0 means [DefaultMemory]; the minimum is [MinMemory].
	Memory int64
	// Threads is the number of processors that sorting and merging may use. 0
	// means GOMAXPROCS.
	Threads int
	// TempDirs are the directories for temporary data, used in turn. None means
	// os.TempDir.
	TempDirs []string
	// Store is where GroupBy and Partition put the records. It must be empty, and
	// its content belongs to the caller afterwards. nil means a temporary
	// log-structured store. Sorting, aggregating, Distinct and TopK use files of
	// their own for records that do not fit in memory, and refuse a Store.
	Store partd.Partd
	// Codec encodes the records, on several goroutines at once; its Join is not
	// used. The zero value means [DefaultCodec]. Aggregate stores no records and
	// needs no codec.
	Codec encode.ValueCodec[T]
	// Progress is called to report progress. Feeds and readers call it on the
	// goroutine that adds or reads, after some 256 records or 256 KiB, but at most
	// every tenth of a second; they also call it whenever a feed is closed or a loop
	// over results ends. Only one call runs at a time, and the goroutine that adds or
	// reads waits for it, so it should be short. There is no call between the last
	// feed and the first result. Progress may call Stats.
	Progress func(Progress)
}

// Stats are statistics about the work done so far. They are complete once
// everything has been read.
type Stats struct {
	Records int64 // put in
	Groups  int64 // groups that came out, if there are groups
	Spilled int64 // bytes written to temporary files by sorting and aggregating
}

var (
	// ErrNotVerified is wrapped by the error for output that does not match the
	// input.
	ErrNotVerified = ledger.ErrNotVerified
	// ErrClosed is wrapped by the error for using something closed, or a zero
	// value that no constructor has made, and wraps [partd.ErrClosed]. Errors
	// for keys and records that are too large for the memory or for a store
	// wrap [partd.ErrTooLarge].
	ErrClosed = spill.ErrClosed
)

type config[T any] struct {
	Options[T] // with all defaults, but for Store
	temp       *tempdir.Set
	meter      *meter // nil without Progress
}

func (o *Options[T]) orDefault() Options[T] { return *cmp.Or(o, new(Options[T])) }

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
	if c.Progress != nil {
		c.meter = &meter{call: c.Progress, start: time.Now()}
	}
	c.Memory = cmp.Or(c.Memory, DefaultMemory)
	c.Threads = cmp.Or(c.Threads, runtime.GOMAXPROCS(0))
	switch {
	case c.Memory < MinMemory:
		return c, fmt.Errorf("option Memory is %d bytes: it must be at least %d", c.Memory, MinMemory)
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

func (o *Options[T]) codec() (encode.ValueCodec[T], error) {
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

// Collect returns the values of an iterator as a slice, or its first error.
func Collect[T any](seq iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for v, err := range orFailing(seq) {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}
