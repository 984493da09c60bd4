// Package hashagg keeps a state, such as a sum or a count, for each of very many keys. Each
// goroutine that adds records has its own [Table]. A table that has filled its share of
// the memory writes its states to a temporary file, partitioned by hash, and continues
// empty. At the end, the states of a key from all tables and files are merged, one
// partition at a time. A partition that is still too large is partitioned again.
//
// Each goroutine calls [Aggregator.Table], then [Table.Get] for each record to change the
// state that it returns, then [Table.Close]. After all have closed their tables, one
// goroutine ranges over [Aggregator.Groups], once, and calls Close.
//
// Every run verifies itself: records and groups must have the same count and the same sum
// of key hashes.
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

// MinMemory is the minimum memory for each thread, in bytes.
const MinMemory = spill.MinMemory

// Options configures an [Aggregator].
type Options struct {
	// Memory limits the bytes of memory that the aggregator uses. 0 means
	// [spill.DefaultMemory]; the minimum is [MinMemory] for each thread. A key with its
	// state must be smaller than a sixteenth of a thread's share.
	Memory int64
	// Threads is the maximum number of open tables, and of partitions that are merged at
	// the same time. 0 means GOMAXPROCS.
	Threads int
	// Temp receives states that do not fit in memory. nil means a new directory in
	// os.TempDir.
	Temp *tempdir.Set
	// Words is the number of 64-bit words in the state of a key. They are initially 0.
	Words int
	// Merge adds the words of another state of the same key to dst. Several goroutines
	// may call it concurrently. It is not needed with NewStates.
	Merge func(dst, src []uint64)
	// NewStates returns storage for states that need more than words, for one table. It
	// may be nil.
	NewStates func() States
}

// States stores, for one table, data of keys that their words do not contain. Only one
// goroutine at a time uses it.
type States interface {
	// Append appends the encoding of a key's complete state, including its words if they
	// matter.
	Append(dst []byte, words []uint64) ([]byte, error)
	// Merge adds a state encoded by Append to that of a key. If the key is new, its
	// words are 0. data is valid until Merge returns.
	Merge(words []uint64, isNew bool, data []byte) error
	// Memory returns the bytes of all states, without their words.
	Memory() int64
	// Reset removes all states. It may keep the memory for the next ones.
	Reset()
}

// Stats describes the work of an aggregator.
type Stats struct {
	Records int64  // calls of Get
	KeySum  uint64 // sum of the hashes of their keys
	Groups  int64  // groups yielded so far
	Spills  int64  // number of times a table was written to a file
	Written int64  // bytes written to files
}

// ErrTooLarge is wrapped by the error for a key with a state that is too large for the
// aggregator's memory. It wraps [partd.ErrTooLarge].
var ErrTooLarge = fmt.Errorf("the group is %w for the memory of the aggregation", partd.ErrTooLarge)

// Aggregator aggregates records. Several goroutines may each use a table.
type Aggregator struct {
	spill.Engine
	opts     Options
	share    int64 // bytes of a table
	minShare int64 // minimum that share may become
	seed     maphash.Seed

	// Mu guards the fields below.
	tables []*Table
	idle   []*Table // closed tables, which can be used again
	stats  Stats
	out    proof
}

// New returns an aggregator. The end of ctx stops all of its work.
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
	// After a spill, one table more than threads is needed, for the groups being yielded.
	// Until then, tables can be larger.
	a.share = a.Memory / int64(a.Threads)
	a.minShare = a.Memory / int64(a.Threads+1)
	return a, nil
}

// Table returns a table for one goroutine. At most as many tables as threads can be open.
func (a *Aggregator) Table() (*Table, error) {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	if err := a.OpenWriter(); err != nil {
		return nil, err
	}
	if a.Writers > a.Threads {
		a.Writers--
		return nil, fmt.Errorf("%d tables are already open, which is the number of threads", a.Threads)
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

// Stats returns statistics of the closed tables.
func (a *Aggregator) Stats() Stats {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	s := a.stats
	s.Groups = a.out.groups
	return s
}

// Close stops all work in progress and removes all temporary data. No table may be in use,
// and no loop over Groups may be running.
func (a *Aggregator) Close() error { return a.Engine.Close(a.freeTables) }

func (a *Aggregator) freeTables() (err error) {
	for _, t := range a.tables {
		err = errors.Join(err, t.free())
	}
	a.tables, a.idle = nil, nil
	return err
}
