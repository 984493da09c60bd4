package logstore

import (
	"context"
	"sync"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/offheap"
)

// tables is the memory that appends go to: two tables, and more where readers
// are slow. Store.mu guards it.
type tables struct {
	mu    *sync.Mutex // Store.mu
	bytes int64       // of a table
	bits  uint8       // of the hash that choose a partition

	active *table
	frozen *table      // being written out, nil if none is
	found  []*table    // of a store opened for reading: what the write-ahead files held
	free   chan *table // not in use
	made   int         // how many there are, but for spare ones
	closed bool

	// A reader that may be slow holds tables only where they could not be
	// written out. So that nobody has to wait for it, others take their place
	// meanwhile.
	slow   int // how many such readers there are
	spares int // how many tables there are beyond the usual two
}

// maxSpares is how many tables slow readers can hold: see flushedView.
const maxSpares = 2

func (ts *tables) make() error {
	for ; ts.made < cap(ts.free); ts.made++ {
		t, err := newTable(ts.bytes)
		if err != nil {
			return err
		}
		ts.free <- t
	}
	return nil
}

// inUse returns the tables that hold records, oldest first.
func (ts *tables) inUse() []*table {
	list := append(make([]*table, 0, len(ts.found)+2), ts.found...)
	for _, t := range []*table{ts.frozen, ts.active} {
		if t != nil {
			list = append(list, t)
		}
	}
	return list
}

func (ts *tables) memory() (n int64) {
	for _, t := range ts.inUse() {
		n += int64(t.chunks * t.chunkSize)
	}
	return n + int64(ts.spares)*ts.bytes // as many are held by slow readers
}

// take takes the table that is not in use, for which readers may have to finish
// first. mu is let go of meanwhile.
func (ts *tables) take(ctx context.Context) (*table, error) {
	if t, err := ts.tryTake(); t != nil || err != nil {
		return t, err
	}
	ts.mu.Unlock()
	defer ts.mu.Lock()
	return canceled.Receive(ctx, ts.free)
}

// tryTake takes a table that is not in use, or makes one where slow readers hold
// those that there are, or returns nil.
func (ts *tables) tryTake() (*table, error) {
	select {
	case t := <-ts.free:
		return t, nil
	default:
	}
	if ts.slow == 0 || ts.spares == maxSpares {
		return nil, nil
	}
	t, err := newTable(ts.bytes)
	if err == nil {
		ts.spares++
	}
	return t, err
}

// put takes back an empty table that is not in use.
func (ts *tables) put(t *table) {
	others := len(ts.free)
	for _, used := range ts.inUse() {
		if used != t {
			others++
		}
	}
	if ts.spares > 0 && others >= 2 {
		ts.spares--
		offheap.Release(t.arena)
		return
	}
	ts.free <- t
}

func (ts *tables) unref(t *table) {
	if t.refs.Add(-1) > 0 {
		return
	}
	if ts.closed || t.loose {
		offheap.Release(t.arena)
		return
	}
	t.reset()
	ts.put(t)
}

func (ts *tables) unrefAll(list []*table, but *table) {
	for _, t := range list {
		if t != but {
			ts.unref(t)
		}
	}
}

// close gives back all memory that no reader holds.
func (ts *tables) close() {
	for len(ts.free) > 0 {
		offheap.Release((<-ts.free).arena)
	}
	ts.closed = true
	ts.unrefAll(ts.inUse(), nil)
}
