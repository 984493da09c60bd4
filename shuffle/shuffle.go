// Package shuffle groups, sorts, partitions, joins and aggregates typed records that do
// not fit in memory, within one memory limit.
//
//   - [Sort] orders records by any number of keys, stably.
//   - [GroupBy] yields each key with its records; a group may be larger than memory.
//   - [Aggregate] combines the records of each key in an accumulator that the caller
//     defines. It writes to disk only what does not fit in memory.
//   - [Join] pairs the records of two sides that have the same key.
//   - [Partition] and [PartitionBy] divide records into parts that can be read one at a
//     time.
//   - [Distinct] and [DistinctBy] keep one of each record or key. [TopK] keeps the first k
//     records in an order.
//
// Each function takes and returns an iterator of records and errors. An input error ends
// the work and is returned. If several goroutines produce records, use the constructors
// instead of the functions: [NewSorter], [NewGrouper], [NewAggregator], [NewJoiner],
// [NewPartitions], [NewDeduplicator] and [NewTop] return a value that any number of
// concurrent [Feed]s can feed. [FeedAll] feeds such a value from several goroutines.
// [Grouper.ForEach] and [Partitions.ForEach] pass groups to several goroutines.
//
// If several processes produce records, each uses [Begin] to get a [Writer] to a shared
// store. [ReadCommitted] reads exactly the committed data, even if processes died.
//
// Records that do not fit in memory are written to temporary directories, which the process removes
// at the end. If the process dies, the next process removes them. When the context ends, all work
// ends with the context's error.
//
// Every job compares the record count and checksum of its output with the count and checksum of its
// input. If they differ, the results end with an error that wraps [ErrNotVerified]. If the caller
// stops reading early, nothing is verified.
//
// If a key or record is too large for the memory or for a store, the error wraps
// [partd.ErrTooLarge].
//
// docs/dev/invariants.md in the repository lists what must hold for attempts at tasks (A1 to A5).
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
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/spill"
)

// Limits of the options.
const (
	DefaultMemory = spill.DefaultMemory
	MinMemory     = 8 << 20
)

// Options are the options for a job with records of type T. The zero value and nil mean the
// defaults.
type Options[T any] struct {
	// Memory limits the memory for records and the data structures that hold them, in
	// bytes. 0 means [DefaultMemory]; the minimum is [MinMemory].
	Memory int64
	// Threads limits the number of goroutines that sort and merge. 0 means GOMAXPROCS. A job with little Memory
	// uses fewer: one less than Memory in MiB, so at most 7 with [MinMemory].
	Threads int
	// TempDirs are the directories for temporary data. They are used in turn. If TempDirs is empty,
	// os.TempDir is used.
	TempDirs []string
	// Store stores the records of GroupBy and Partition. It must be empty. It still has the records
	// after the job. nil means a temporary log-structured store. All other functions use temporary
	// files instead and reject a Store.
	Store partd.Partd
	// Codec encodes the records. It is used concurrently; its Join is not used. The zero
	// value means [DefaultCodec]. Aggregate stores no records and needs no codec.
	Codec encode.ValueCodec[T]
	// Progress is called by the goroutines that add or read records, at most ten times a second. It
	// is also called when a feed is closed and when a loop over results ends, but never between
	// closing the last feed and the first result. Only one call runs at a time. The calling
	// goroutine waits until Progress returns, so Progress should be fast. Progress may call Stats
	// methods.
	Progress func(Progress)
}

// Stats are statistics about a job. They are complete when all results have been read.
type Stats struct {
	Records int64 // input records
	Groups  int64 // groups in the output; 0 if the job has no groups
	Spilled int64 // bytes written to temporary files by sorting and aggregating
}

type config[T any] struct {
	Options[T] // all options except Store have their defaults filled in
	temp       *tempdir.Set
	meter      *meter // nil if Progress is nil
}

func (o *Options[T]) orDefault() Options[T] { return *cmp.Or(o, new(Options[T])) }

// oneThread returns a copy of the options with Threads set to 1, so that a single feed can use all
// of the memory. It does not change a negative value of Threads, which resolve rejects.
func (o *Options[T]) oneThread() *Options[T] {
	opts := o.orDefault()
	if opts.Threads >= 0 {
		opts.Threads = 1
	}
	return &opts
}

// resolveNoStore is like resolve, but rejects a Store.
func (o *Options[T]) resolveNoStore() (config[T], error) {
	if o != nil && o.Store != nil {
		return config[T]{}, argumentErrorf("option Store: only GroupBy and Partition use a store")
	}
	return o.resolve()
}

func (o *Options[T]) resolve() (c config[T], err error) {
	c.Options = o.orDefault()
	if c.Progress != nil {
		c.meter = &meter{callback: c.Progress, start: time.Now()}
	}
	c.Memory = cmp.Or(c.Memory, DefaultMemory)
	c.Threads = cmp.Or(c.Threads, runtime.GOMAXPROCS(0))
	switch {
	case c.Memory < MinMemory:
		return c, argumentErrorf("option Memory is %d bytes: it must be at least %d", c.Memory, MinMemory)
	case c.Threads < 0:
		return c, argumentErrorf("option Threads is %d: it must be positive", c.Threads)
	}
	c.Threads = int(min(int64(c.Threads), c.Memory>>20-1))
	c.Codec, err = o.codec()
	if err != nil {
		return c, err
	}
	c.temp, err = tempdir.New(c.TempDirs, nil)
	return c, err
}

func (o *Options[T]) codec() (encode.ValueCodec[T], error) {
	c := o.orDefault().Codec
	switch {
	case (c.Encode == nil) != (c.Decode == nil):
		return c, argumentErrorf("option Codec has only one of Encode and Decode: set both")
	case c.Encode == nil:
		return DefaultCodec[T]()
	}
	return c, nil
}

// Values returns an iterator over values that yields no errors, for functions that take a feed. It reads no store:
// see [partd.Values] and [Committed.Values].
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
	var values []T
	for v, err := range orFailing(seq) {
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

var (
	// ErrNotVerified is wrapped by the error for output that does not match the input.
	ErrNotVerified = ledger.ErrNotVerified
	// ErrClosed is wrapped by the error for using a value after Close, or a value that no
	// constructor returned. It wraps [partd.ErrClosed].
	ErrClosed = spill.ErrClosed
	// ErrArgument is wrapped by the error for an option or an argument that is invalid, such as a key
	// function that is nil. Nothing was read or written.
	ErrArgument = errors.New("invalid argument")
	// ErrOpenFeeds is wrapped by the error for reading results while feeds are open.
	ErrOpenFeeds = spill.ErrOpenWriters
	// ErrCommitted is wrapped by the error for a task that has already committed.
	ErrCommitted = errors.New("the task has already committed")
)

func errorf(format string, args ...any) error { return fmt.Errorf("shuffle: "+format, args...) }

// argumentErrorf returns an error that wraps ErrArgument, without repeating its text.
func argumentErrorf(format string, args ...any) error { return argumentError{errorf(format, args...)} }

type argumentError struct{ error }

func (e argumentError) Unwrap() error      { return e.error }
func (argumentError) Is(target error) bool { return target == ErrArgument }
