// Package hashagg keeps a state for each of very many keys: sums, counts,
// whatever combines. Each goroutine that feeds has a [Table] of its own. A table
// that has filled its share of the memory writes its states to a temporary file,
// divided by hash, and goes on empty; at the end the states of a key, from all
// tables and files, are merged, a division at a time. A division that is still
// too large is divided again.
//
// Use: each goroutine calls [Aggregator.Table], then [Table.Get] for each record
// and changes the state that it gets, then [Table.Close]; when all have closed,
// one ranges over [Aggregator.Groups], once; then Close.
//
// Every run proves itself: how often Get was called, and the sum of the hashes
// of its keys, are compared with the groups that come out.
package hashagg

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync"

	"github.com/go-partd/partd/internal/tempdir"
)

// Limits of the options.
const (
	DefaultMemory = 256 << 20
	MinMemory     = 256 << 10
)

// Options of an [Aggregator].
type Options struct {
	// Memory bounds all that the aggregator takes, in bytes: 0 means
	// [DefaultMemory], at least [MinMemory] for each thread. A key with its state
	// must be smaller than a sixteenth of a thread's share.
	Memory int64
	// Threads is how many tables may be open at once, and how many divisions are
	// merged at once at the end. 0 means GOMAXPROCS.
	Threads int
	// Temp is where states go that do not fit. nil: directories of its own in
	// os.TempDir.
	Temp *tempdir.Set
	// Words is how many 64-bit numbers the state of a key has. They begin as 0.
	Words int
	// Merge adds the words of another state of the same key to dst. It may be
	// called by several goroutines at once. Options with NewStates do not need it.
	Merge func(dst, src []uint64)
	// NewStates makes what keeps states that are more than words, for one table.
	// nil: there are none.
	NewStates func() States
}

// States keep what belongs to keys beyond their words, or what the words refer
// to, for one table. They are used by one goroutine at a time.
type States interface {
	// Append appends a key's whole state to dst, its words if they matter too.
	Append(dst []byte, words []uint64) ([]byte, error)
	// Merge adds a state that Append encoded to that of a key, whose words are 0
	// if it is new. data is valid until it returns.
	Merge(words []uint64, isNew bool, data []byte) error
	// Memory returns the bytes that all states take, beyond their words.
	Memory() int64
	// Reset forgets all states, and keeps the memory for the next ones or gives
	// it back.
	Reset()
}

// Stats tell what an aggregator did.
type Stats struct {
	Records int64  // calls of Get
	KeySum  uint64 // sum of the hashes of their keys
	Groups  int64  // that came out, so far
	Spills  int64  // times that a table was written out
	Written int64  // bytes of that
}

var (
	// ErrTooLarge is wrapped by the error for a key with a state that the memory
	// is too small for.
	ErrTooLarge = errors.New("the group is too large for the memory to aggregate in")
	// ErrClosed is the error of what is asked of a closed aggregator or table.
	ErrClosed = errors.New("the aggregator is closed")
	// ErrNotVerified is the error where the groups do not stand for the records
	// that were put in.
	ErrNotVerified = errors.New("the groups do not stand for the records that were aggregated")
)

// Aggregator aggregates. Its tables may be used at the same time.
type Aggregator struct {
	opts  Options
	share int64 // bytes of a table
	seed  maphash.Seed
	temp  *tempdir.Set
	own   bool // temp is to be closed
	ctx   context.Context
	stop  context.CancelCauseFunc

	mu      sync.Mutex
	err     error
	closed  bool
	reading bool
	open    int // tables in use
	tables  []*Table
	idle    []*Table // closed, and may be used again
	stats   Stats
	out     proof
	tasks   sync.WaitGroup
}

// New returns an aggregator. ctx ends all that it does.
func New(ctx context.Context, o Options) (*Aggregator, error) {
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.Threads == 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	switch {
	case o.Threads < 0:
		return nil, fmt.Errorf("aggregating with %d threads: there is one at least", o.Threads)
	case o.Memory < MinMemory*int64(o.Threads):
		return nil, fmt.Errorf("aggregating in %d bytes of memory with %d threads: they take %d at least", o.Memory, o.Threads, MinMemory*o.Threads)
	case o.Words < 0:
		return nil, fmt.Errorf("a state of %d words", o.Words)
	case o.Merge == nil && o.NewStates == nil && o.Words > 0:
		return nil, errors.New("aggregating without a function that merges states")
	}
	// One more than the threads is needed at the end, for the groups that are
	// being used.
	a := &Aggregator{opts: o, share: o.Memory / int64(o.Threads+1), seed: maphash.MakeSeed(), temp: o.Temp}
	if a.temp == nil {
		var err error
		if a.temp, err = tempdir.New(nil, nil); err != nil {
			return nil, err
		}
		a.own = true
	}
	a.ctx, a.stop = context.WithCancelCause(ctx)
	return a, nil
}

// Table returns a table for one goroutine. There can be as many at once as there
// are threads.
func (a *Aggregator) Table() (*Table, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.err != nil:
		return nil, a.err
	case a.reading:
		return nil, fmt.Errorf("a table after Groups: %w", ErrClosed)
	case a.open == a.opts.Threads:
		return nil, fmt.Errorf("%d tables are open, as many as there are threads", a.open)
	}
	a.open++
	if n := len(a.idle); n > 0 {
		t := a.idle[n-1]
		a.idle = a.idle[:n-1]
		t.closed, t.err = false, nil
		return t, nil
	}
	t, err := a.newTable()
	if err != nil {
		a.open--
		return nil, err
	}
	a.tables = append(a.tables, t)
	return t, nil
}

// Stats returns what was done by the tables that are closed.
func (a *Aggregator) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stats
	s.Groups = a.out.groups
	return s
}

// fail ends everything because of err, unless something failed before, and
// returns why.
func (a *Aggregator) fail(err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = err
		a.stop(err)
	}
	return a.err
}

// Close ends everything that is under way and removes all temporary data. No
// table may be in use, and a loop over Groups must have ended.
func (a *Aggregator) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	a.mu.Unlock()
	_ = a.fail(ErrClosed)
	a.tasks.Wait()
	var errs []error
	for _, t := range a.tables {
		errs = append(errs, t.free())
	}
	a.tables, a.idle = nil, nil
	if a.own {
		errs = append(errs, a.temp.Close())
	}
	return errors.Join(errs...)
}
