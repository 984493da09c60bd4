// Package hashagg keeps a state, such as a sum or a count, for each of very many keys. Each
// goroutine that adds records has its own [Table]. When a table is full, its states are written to
// a temporary file, partitioned by the keys' hashes. At the end, the states of each key are
// merged, one partition at a time. If a partition does not fit in memory, it is partitioned again.
//
// Each goroutine calls [Aggregator.Table], then [Table.Get] for each record to change the key's
// state, and finally [Table.Close]. After all tables are closed, one goroutine ranges over
// [Aggregator.Groups] once and calls Close.
//
// The aggregator verifies that the input records and the groups have the same count and the
// same sum of key hashes.
package hashagg

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/spill"
)

// MinMemory is the minimum memory for each thread, in bytes.
const MinMemory = spill.MinMemory

// Options configures an [Aggregator].
type Options struct {
	// Memory is the maximum memory in bytes. 0 means [spill.DefaultMemory]; the minimum is
	// [MinMemory] for each thread. A key with its state must be smaller than a sixteenth of
	// the memory per thread.
	Memory int64
	// Threads is the maximum number of open tables, and of partitions that are merged at
	// the same time. 0 means GOMAXPROCS.
	Threads int
	// Temp is the directory for states that do not fit in memory. nil means a new directory
	// in os.TempDir.
	Temp *tempdir.Set
	// Words is the number of 64-bit words in a key's state. They are initially 0.
	Words int
	// Merge merges the state src into dst, the state of the same key. It must be safe for
	// concurrent use. It is not called if NewStates is set.
	Merge func(dst, src []uint64)
	// NewStates returns storage for the parts of a table's states that do not fit into the words.
	// nil means that all states consist only of words.
	NewStates func() States
}

// States stores the parts of states that do not fit into a fixed number of 64-bit words, for example
// strings, for all keys of one table. Only one goroutine at a time uses a States.
type States interface {
	// Append appends the encoding of a key's complete state to dst. The encoding includes the
	// words, unless they only tell where the States stores the rest.
	Append(dst []byte, words []uint64) ([]byte, error)
	// Merge merges data, which is a state encoded by Append, into a key's state. If the key is
	// new, its words are 0. data is valid until Merge returns.
	Merge(words []uint64, isNew bool, data []byte) error
	// Memory returns the memory in use in bytes, without the words.
	Memory() int64
	// Reset removes all states. It may keep memory for new states.
	Reset()
}

// Stats holds statistics about an aggregator.
type Stats struct {
	Records int64  // number of calls to Get
	KeySum  uint64 // sum of the key hashes of all records
	Groups  int64  // number of groups yielded
	Spills  int64  // number of times a table was written to a file
	Written int64  // bytes written to files
}

// ErrTooLarge means that a key with its state is too large for the aggregator's memory. It wraps
// [partd.ErrTooLarge].
var ErrTooLarge = fmt.Errorf("the group is %w for the memory of the aggregation", partd.ErrTooLarge)

// Aggregator keeps a state for each key; see the package documentation.
type Aggregator struct {
	spill.Engine
	opts     Options
	share    int64 // memory for a table in bytes
	minShare int64 // minimum value of share
	seed     maphash.Seed

	// Mu guards the fields below.
	tables []*Table
	idle   []*Table // closed tables, for reuse
	stats  Stats
	output Totals
}

// New returns an aggregator. It stops when ctx ends.
func New(ctx context.Context, o Options) (*Aggregator, error) {
	switch {
	case o.Words < 0:
		return nil, fmt.Errorf("a state cannot have %d words", o.Words)
	case o.Merge == nil && o.NewStates == nil && o.Words > 0:
		return nil, errors.New("Options.Merge is missing: states with words must be merged")
	}
	a := &Aggregator{opts: o, seed: maphash.MakeSeed()}
	a.Memory, a.Threads, a.Temp = o.Memory, o.Threads, o.Temp
	if err := a.Start(ctx, "aggregating", o.Threads); err != nil {
		return nil, err
	}
	// If tables are written to files, mergePartitions needs one more table, for the groups that
	// are being yielded. It then reduces share.
	a.share = a.Memory / int64(a.Threads)
	a.minShare = a.Memory / int64(a.Threads+1)
	return a, nil
}

// Table returns a table for one goroutine. At most Options.Threads tables can be open at a time.
func (a *Aggregator) Table() (*Table, error) {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	if err := a.OpenWriter(); err != nil {
		return nil, err
	}
	if a.Writers > a.Threads {
		a.Writers--
		return nil, fmt.Errorf("%d tables are already open, one for each thread", a.Threads)
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

// Stats returns the statistics of the closed tables.
func (a *Aggregator) Stats() Stats {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	s := a.stats
	s.Groups = a.output.Groups
	return s
}

// Close stops background work and removes all temporary data. It must not be called while a table
// is in use, or during a loop over Groups.
func (a *Aggregator) Close() error { return a.Engine.Close(a.freeTables) }

func (a *Aggregator) freeTables() (err error) {
	for _, t := range a.tables {
		err = errors.Join(err, t.Discard())
	}
	a.tables, a.idle = nil, nil
	return err
}
