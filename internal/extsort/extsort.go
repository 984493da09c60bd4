// Package extsort sorts records that need not fit in memory: stably, by keys
// whose order is that of bytes.Compare. The Append functions of this package
// encode numbers, texts and their reverse into such keys.
//
// Records are copied into slots of memory. A full slot is sorted in the
// background, and stays in memory until the memory is needed: then it is
// written to a temporary file as a run. At the end the slots that are still
// there and the runs are merged. Everything is counted on both sides: a sum
// over all records that went in is compared with that over those that come out.
//
// Use: several goroutines call [Sorter.Writer] or [Sorter.Batch], add records and
// close their writers; then one ranges over [Sorter.Sorted], once; then Close.
package extsort

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/go-partd/partd/internal/tempdir"
)

// Limits of the options.
const (
	DefaultMemory = 256 << 20
	MinMemory     = 256 << 10
)

// Options of a [Sorter]. The zero value, and nil, are the defaults.
type Options struct {
	// Memory bounds all that the sorter takes, in bytes: 0 means
	// [DefaultMemory], at least [MinMemory]. A record with its key must be
	// smaller than a fortieth of it.
	Memory int64
	// Threads is how many slots are sorted at once, 0 means GOMAXPROCS.
	Threads int
	// Temp is where runs go. nil: directories of its own in os.TempDir.
	Temp *tempdir.Set
	// Compress compresses runs with S2: less is written for more computing.
	Compress bool
	// KeepKeys hands keys out beside records.
	KeepKeys bool
}

// Stats tell what a sorter did.
type Stats struct {
	Records int64  // taken in
	Bytes   int64  // of their records, without keys
	Sum     Sum128 // sum of xxh3-128 of each record, with KeepKeys of (uvarint length of the key, key, record)
	Runs    int64  // written to files, those of further passes included
	Passes  int    // merges that each record went through at most, the last included
	Written int64  // bytes of all runs
}

var (
	// ErrTooLarge is wrapped by the error for a record that the memory is too
	// small for.
	ErrTooLarge = errors.New("the record is too large for the memory to sort in")
	// ErrClosed is the error of what is asked of a closed sorter or writer.
	ErrClosed = errors.New("the sorter is closed")
	// ErrNotVerified is the error where more or fewer or other records came out
	// than went in.
	ErrNotVerified = errors.New("the sorted records are not those that were to be sorted")
)

// Sorter sorts records. Its writers may be used at the same time.
type Sorter struct {
	opts  Options
	sizes sizes
	temp  *tempdir.Set
	own   bool // temp is to be closed
	ctx   context.Context
	stop  context.CancelCauseFunc

	// mu guards what follows, cond is for all changes of it.
	mu      sync.Mutex
	cond    sync.Cond
	err     error
	closed  bool
	writers int // open ones
	merging bool
	turn    uint64 // the batch whose turn it is
	seq     int64  // of the next slot
	filling *slot
	free    []*slot
	slots   []*slot // all that were made
	sorted  []*slot // in memory, by seq
	runs    []*run  // in files, by seq
	sorting int     // slots that wait for being sorted, or are
	spills  int     // slots being written
	stats   Stats
	buffers [][]byte

	cpu   chan struct{} // as many as may sort at once
	tasks sync.WaitGroup
}

// sizes is how the memory is divided.
type sizes struct {
	slot      int // bytes of a slot
	slots     int // how many there are
	block     int // bytes of a run's block, a longer record has one of its own
	buffer    int // bytes of a writer's buffer
	records   int // it holds at most, as many as have room for their entries
	out       int // bytes of a block that is handed out
	outs      int // how many of these there are
	maxRecord int // bytes of a record with its key
}

func sizesFor(memory int64) sizes {
	var z sizes
	z.slots = 8
	z.slot = int(memory*8/10/int64(z.slots)) &^ (1<<12 - 1)
	z.block = max(min(z.slot/16, 256<<10), 1<<10)
	z.buffer = max(min(z.slot/16, 512<<10), 1<<10)
	z.records = z.slot / 4 / (2 * entrySize)
	z.out = max(min(z.slot/16, 512<<10), 1<<10)
	z.outs = 3
	z.maxRecord = z.slot/4 - 64
	return z
}

// New returns a sorter. ctx ends all that it does.
func New(ctx context.Context, o *Options) (*Sorter, error) {
	s := &Sorter{}
	if o != nil {
		s.opts = *o
	}
	if s.opts.Memory == 0 {
		s.opts.Memory = DefaultMemory
	}
	if s.opts.Memory < MinMemory {
		return nil, fmt.Errorf("sorting in %d bytes of memory: it takes %d at least", s.opts.Memory, MinMemory)
	}
	if s.opts.Threads < 0 {
		return nil, fmt.Errorf("sorting with %d threads: there is one at least", s.opts.Threads)
	}
	if s.opts.Threads == 0 {
		s.opts.Threads = runtime.GOMAXPROCS(0)
	}
	s.sizes = sizesFor(s.opts.Memory)
	s.temp = s.opts.Temp
	if s.temp == nil {
		var err error
		if s.temp, err = tempdir.New(nil, nil); err != nil {
			return nil, err
		}
		s.own = true
	}
	s.cond.L = &s.mu
	s.cpu = make(chan struct{}, s.opts.Threads)
	s.ctx, s.stop = context.WithCancelCause(ctx)
	context.AfterFunc(s.ctx, func() { s.fail(context.Cause(s.ctx)) })
	return s, nil
}

// Stats returns what was done so far.
func (s *Sorter) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// fail ends everything because of err, unless something failed before.
func (s *Sorter) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(err)
}

func (s *Sorter) failLocked(err error) {
	if s.err == nil {
		s.err = err
		s.stop(err)
	}
	s.cond.Broadcast()
}

// failure returns what ended everything, if something did. mu is held.
func (s *Sorter) failure() error {
	// What notes the end of the context may not have come to it yet.
	if s.err == nil && s.ctx.Err() != nil {
		s.failLocked(context.Cause(s.ctx))
	}
	return s.err
}

// Close ends everything that is under way, waits for it, and removes all
// temporary data. A loop over Sorted must have ended.
func (s *Sorter) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.failLocked(ErrClosed)
	s.mu.Unlock()
	s.tasks.Wait()
	var errs []error
	for _, r := range s.runs {
		errs = append(errs, r.close())
	}
	for _, m := range s.slots {
		m.release()
	}
	s.runs, s.slots, s.sorted, s.free, s.filling, s.buffers = nil, nil, nil, nil, nil, nil
	if s.own {
		errs = append(errs, s.temp.Close())
	}
	return errors.Join(errs...)
}
