package commit

import (
	"context"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// Release drops a reference obtained from Acquire.
func (e *Entry) Release() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tables.mu.Lock() // so that Acquire does not return the entry while it is removed
	defer e.tables.mu.Unlock()
	e.refs--
	if e.refs == 0 && len(e.tables.entries) > maxEntries && !e.unread.Load() && (e.log == nil || e.tables.Tail.Retire(e.log)) {
		delete(e.tables.entries, e.TableName)
	}
}

// Tail contains the rows of a table that are only in the tail.
type Tail struct {
	Rows        []arrow.RecordBatch // in the column types of files; the caller of View must release them
	Fingerprint string              // changes if the rows change

	Deduped  bool // whether Rows were stored by Cache, and therefore contain no duplicates
	Replaces bool // if Deduped: whether Rows can replace rows in files

	log *tail.Log
	key string
}

// Cache stores deduplicated rows for other readers of the same table state.
func (t *Tail) Cache(deduped arrow.RecordBatch, replaces bool) { t.log.Cache(t.key, deduped, replaces) }

// View returns the table's current state and definition and, if withRows is true, the rows that are only in the tail.
func (e *Entry) View(ctx context.Context, withRows bool) (t *table.Table, d *definition.Definition, rows *Tail, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	rows = &Tail{}
	t, err = e.load(ctx)
	if d = e.state.def; err != nil || !withRows || e.log == nil {
		return t, d, rows, err
	}
	rows.log = e.log
	if rows.Fingerprint, err = e.log.Fingerprint(ctx, e.state.folded); err != nil {
		return t, d, rows, err
	}
	rows.key = e.state.location + " " + rows.Fingerprint
	rows.Rows, rows.Replaces, rows.Deduped = e.log.Cached(rows.key)
	if !rows.Deduped {
		rows.Rows, err = e.readTail(ctx, t.Metadata(), lastEpoch)
	}
	if err != nil {
		return t, d, rows, err
	}
	rows.Rows, err = castTail(rows.Rows, d.Stored)
	return t, d, rows, err
}

// readTail returns the rows that are only in the tail, through epoch upTo (epochs are the numbered parts of the
// tail). The caller must release the rows. e.mu must be held.
func (e *Entry) readTail(ctx context.Context, meta table.Metadata, upTo int64) ([]arrow.RecordBatch, error) {
	rows, err := e.log.Rows(ctx, e.state.folded, upTo)
	if err != nil {
		return nil, err
	}
	return renameAll(meta, e.state.def.Stored, rows)
}

// Pin prevents the removal of files until unpin is called.
func (s *Tables) Pin() (unpin func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, partd.ErrClosed
	}
	p := &pin{time.Now()}
	s.pins[p] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.pins, p)
	}, nil
}

// Pinned returns the number of pins, and the creation time of the oldest pin. Without pins, oldest is the current time.
func (s *Tables) Pinned() (pins int, oldest time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	earliest := time.Now()
	for p := range s.pins {
		if p.created.Before(earliest) {
			earliest = p.created
		}
	}
	return len(s.pins), earliest
}

// Acquire returns a table's entry, whose rows in the tail it has read. The caller must release it.
func (s *Tables) Acquire(ctx context.Context, n icecat.TableName) (*Entry, error) {
	e, err := s.reference(n)
	if err != nil {
		return nil, err
	}
	if err := s.readTail(ctx, e); err != nil {
		e.Release()
		return nil, err
	}
	return e, nil
}

func (s *Tables) reference(n icecat.TableName) (*Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, partd.ErrClosed
	}
	e := s.entries[n]
	if e == nil {
		e = &Entry{tables: s, TableName: n, Changing: make(chan struct{}, 1)}
		s.entries[n] = e
	}
	e.refs++
	return e, nil
}

// AcquirePinned is Acquire and Pin together. The caller must call release.
func (s *Tables) AcquirePinned(ctx context.Context, n icecat.TableName) (_ *Entry, release func(), err error) {
	e, err := s.Acquire(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	unpin, err := s.Pin()
	if err != nil {
		e.Release()
		return nil, nil, err
	}
	return e, func() { unpin(); e.Release() }, nil
}

// Refresh updates a table's state in memory from the catalog, and finds the table's rows in the tail.
func (s *Tables) Refresh(ctx context.Context, n icecat.TableName) error {
	e, err := s.Acquire(ctx, n)
	if err != nil {
		return err
	}
	defer e.Release()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.refresh(ctx)
}

// WithTailRows adds the table's rows in the tail to the row count and size of l.
func (s *Tables) WithTailRows(ctx context.Context, l icecat.Listed) (icecat.Listed, error) {
	s.mu.Lock()
	e := s.entries[icecat.TableName{Namespace: l.Namespace, Name: l.Name}]
	s.mu.Unlock()
	if e == nil {
		return l, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	// A fold may have happened since l was read, so read the listing again, together with the tail.
	if err := e.refresh(ctx); err != nil || e.log == nil {
		return l, err
	}
	current, err := s.Catalog.Get(ctx, l.Namespace, l.Name)
	if err != nil {
		return l, err
	}
	rows, bytes, _, updated := e.log.Size(e.state.folded)
	current.Rows, current.Bytes, current.Metadata, current.Damaged = current.Rows+rows, current.Bytes+bytes, l.Metadata, l.Damaged
	current.Version = max(current.Version, highest(e.log.Versions(e.state.folded, lastEpoch)))
	if updated.After(current.Updated) {
		current.Updated = updated
	}
	return current, nil
}

// InMemory returns the tables in memory, which include every table with rows in the tail.
func (s *Tables) InMemory() (names []icecat.TableName) {
	for _, e := range s.allEntries() {
		names = append(names, e.TableName)
	}
	return names
}

// WithTail returns the tables of a namespace that have rows in the tail.
func (s *Tables) WithTail(ctx context.Context, namespace string) (names []icecat.TableName) {
	s.ReadTails(ctx)
	for _, e := range s.olderThan(time.Now().Add(time.Hour)) {
		if e.Namespace == namespace {
			names = append(names, e.TableName)
		}
	}
	return names
}

// olderThan returns the entries with rows in the tail that were put before a moment.
func (s *Tables) olderThan(moment time.Time) (old []*Entry) {
	for _, e := range s.allEntries() {
		e.mu.Lock()
		if e.log != nil {
			rows, _, oldest, _ := e.log.Size(e.state.folded)
			if rows > 0 && oldest.Before(moment) {
				old = append(old, e)
			}
		} else if e.hasUnreadRows() { // the rows' age is unknown
			old = append(old, e)
		}
		e.mu.Unlock()
	}
	return old
}
