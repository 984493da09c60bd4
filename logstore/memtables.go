package logstore

import (
	"context"
	"sync"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/offheap"
)

// memtables holds the store's two memtables and the spare tables that replace them while slow
// readers use them. Store.mu guards it.
type memtables struct {
	mu    *sync.Mutex // Store.mu
	bytes int64       // size of a table
	bits  uint8       // hash bits that select a part

	active    *memtable
	frozen    *memtable      // the table being sealed, or nil
	walTables []*memtable    // in a read-only store, tables with the records of the write-ahead files
	walErr    error          // the reason why the write-ahead files could not be read, or nil
	free      chan *memtable // unused tables
	count     int            // number of tables, not counting spares
	lent      bool           // see lend
	closed    bool

	// slowReaders is the number of views that may use tables for a long time, because flushing
	// failed. Spare tables replace these tables, so that no call waits for a slow reader.
	slowReaders int
	spares      int // number of tables beyond the usual two
}

// maxSpares is the maximum number of tables that slow readers use; see flushedView.
const maxSpares = 2

func (ts *memtables) allocate() error {
	for ; ts.count < cap(ts.free); ts.count++ {
		t, err := newTable(ts.bytes)
		if err != nil {
			return err
		}
		ts.free <- t
	}
	return nil
}

// inUse returns the tables with records, oldest first.
func (ts *memtables) inUse() []*memtable {
	list := append(make([]*memtable, 0, len(ts.walTables)+2), ts.walTables...)
	for _, t := range []*memtable{ts.frozen, ts.active} {
		if t != nil {
			list = append(list, t)
		}
	}
	return list
}

func (ts *memtables) memory() (n int64) {
	for _, t := range ts.inUse() {
		n += int64(t.chunks * t.chunkSize)
	}
	return n + int64(ts.spares)*ts.bytes // each spare replaces a table that a slow reader uses
}

// takeTable returns an unused table. If there is none, it releases mu and waits until readers release one.
func (ts *memtables) takeTable(ctx context.Context) (*memtable, error) {
	if t, err := ts.tryTake(); t != nil || err != nil {
		return t, err
	}
	ts.mu.Unlock()
	defer ts.mu.Lock()
	return canceled.Receive(ctx, ts.free)
}

// tryTake returns an unused table, or nil if all are in use. If slow readers use tables, it creates a
// spare table instead of returning nil, up to maxSpares.
func (ts *memtables) tryTake() (*memtable, error) {
	select {
	case t := <-ts.free:
		return t, nil
	default:
	}
	if ts.slowReaders == 0 || ts.spares == maxSpares {
		return nil, nil
	}
	t, err := newTable(ts.bytes)
	if err != nil {
		return t, err
	}
	ts.spares++
	return t, nil
}

// put makes an empty table available again. If there are spares and two other tables are available,
// it frees the table instead.
func (ts *memtables) put(t *memtable) {
	available := len(ts.free)
	for _, used := range ts.inUse() {
		if used != t {
			available++
		}
	}
	if ts.spares > 0 && available >= 2 {
		ts.spares--
		offheap.Release(t.arena)
		return
	}
	if !ts.lent && int64(len(t.arena)) < ts.bytes/2+ts.bytes/4 {
		_ = t.resize(ts.bytes) // after an error, the smaller table serves as well
	}
	ts.free <- t
}

// lend shrinks an unused table to half its size. It returns the number of bytes that a scan may then
// use until it calls takeBack, or 0 if no table is unused, another scan has the memory, or an
// operation of maxBatch bytes might not fit into the smaller table.
func (ts *memtables) lend(maxBatch int) int64 {
	if ts.lent || ts.closed || ts.slowReaders+ts.spares > 0 || ts.bytes/2 < 3*int64(maxBatch) {
		return 0
	}
	select {
	case t := <-ts.free:
		ts.lent = t.resize(ts.bytes/2) == nil
		ts.free <- t
	default:
	}
	if ts.lent {
		return ts.bytes / 2
	}
	return 0
}

// takeBack restores the size of the table that lend shrank, now or once the table is unused.
func (ts *memtables) takeBack() {
	ts.lent = false
	for range len(ts.free) {
		select { // do not block: takeTable does not hold mu while it waits, so it may take the table first
		case t := <-ts.free:
			ts.put(t)
		default:
		}
	}
}

func (ts *memtables) release(t *memtable) {
	if t.refs.Add(-1) > 0 {
		return
	}
	if ts.closed || t.temporary {
		offheap.Release(t.arena)
		return
	}
	t.reset()
	ts.put(t)
}

func (ts *memtables) releaseAll(list []*memtable, except *memtable) {
	for _, t := range list {
		if t != except {
			ts.release(t)
		}
	}
}

// close frees all tables; a table in use is freed when its last reader ends.
func (ts *memtables) close() {
	for len(ts.free) > 0 {
		offheap.Release((<-ts.free).arena)
	}
	ts.closed = true
	ts.releaseAll(ts.inUse(), nil)
}
