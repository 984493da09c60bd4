// Package hashagg keeps a state for each of very many keys: sums, counts,
// whatever combines. Each goroutine that feeds has its own [Table]. A table
// that has filled its share of the memory writes its states to a temporary file,
// partitioned by hash, and goes on empty; at the end the states of a key, from all
// tables and files, are merged, a partition at a time. A partition that is
// still too large is partitioned again.
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

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/spill"
	"github.com/go-partd/partd/internal/tempdir"
)

// MinMemory is how much memory each thread takes at least, in bytes.
const MinMemory = spill.MinMemory

// Options of an [Aggregator].
type Options struct {
	// Memory bounds all that the aggregator takes, in bytes: 0 means
	// [spill.DefaultMemory], at least [MinMemory] for each thread. A key with its state
	// must be smaller than a sixteenth of a thread's share.
	Memory int64
	// Threads is how many tables may be open at once, and how many partitions are
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

// ErrTooLarge is wrapped by the error for a key with a state that the memory is
// too small for, and wraps [partd.ErrTooLarge].
var ErrTooLarge = fmt.Errorf("the group is %w for the memory to aggregate in", partd.ErrTooLarge)

// Aggregator aggregates. Its tables may be used at the same time.
type Aggregator struct {
	spill.Engine
	opts  Options
	share int64 // bytes of a table
	least int64 // that its share may become
	seed  maphash.Seed

	// Mu guards what follows.
	tables []*Table
	idle   []*Table // closed, and may be used again
	stats  Stats
	out    proof
}

// New returns an aggregator. ctx ends all that it does.
func New(ctx context.Context, o Options) (*Aggregator, error) {
	switch {
	case o.Words < 0:
		return nil, fmt.Errorf("a state of %d words", o.Words)
	case o.Merge == nil && o.NewStates == nil && o.Words > 0:
		return nil, errors.New("aggregating without a function that merges states")
	}
	a := &Aggregator{opts: o, seed: maphash.MakeSeed()}
	a.Memory, a.Threads, a.Temp = o.Memory, o.Threads, o.Temp
	if err := a.Start(ctx, "aggregating", o.Threads); err != nil {
		return nil, err
	}
	// One more than the threads is needed where tables were spilled, for the groups
	// that are being used. Until then there are none, and more fits.
	a.share = a.Memory / int64(a.Threads)
	a.least = a.Memory / int64(a.Threads+1)
	return a, nil
}

// Table returns a table for one goroutine. There can be as many at once as there
// are threads.
func (a *Aggregator) Table() (*Table, error) {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	if err := a.OpenWriter(); err != nil {
		return nil, err
	}
	if a.Writers > a.Threads {
		a.Writers--
		return nil, fmt.Errorf("%d tables are open, as many as there are threads", a.Threads)
	}
	if n := len(a.idle); n > 0 {
		t := a.idle[n-1]
		a.idle = a.idle[:n-1]
		t.closed, t.err = false, nil
		return t, nil
	}
	t, err := a.newTable()
	if err != nil {
		a.Writers--
		return nil, err
	}
	a.tables = append(a.tables, t)
	return t, nil
}

// Stats returns what was done by the tables that are closed.
func (a *Aggregator) Stats() Stats {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	s := a.stats
	s.Groups = a.out.groups
	return s
}

// Close ends everything that is under way and removes all temporary data. No
// table may be in use, and a loop over Groups must have ended.
func (a *Aggregator) Close() error { return a.Engine.Close(a.freeTables) }

func (a *Aggregator) freeTables() (err error) {
	for _, t := range a.tables {
		err = errors.Join(err, t.free())
	}
	a.tables, a.idle = nil, nil
	return err
}
