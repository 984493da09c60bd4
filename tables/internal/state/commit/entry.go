package commit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// maxEntries is the number of entries above which unused entries without rows in the tail are removed from memory.
const maxEntries = 1 << 14

// lastEpoch is greater than the number of every epoch (numbered part of the tail).
const lastEpoch = math.MaxInt64

// Entry is the state of a table in memory, while the table is in use or has rows in the tail.
type Entry struct {
	tables *Tables
	icecat.TableName
	refs int // guarded by Tables.mu

	// Commits is held during every commit to the table in this process.
	Commits sync.Mutex

	// Changing has one element while an SQL statement of this process changes rows of the table.
	Changing chan struct{}

	mu          sync.Mutex // guards the fields below, and serializes appends to the tail
	state       state
	log         *tail.Log // nil if the tail has no rows of the table, or they are unread
	bucketRules string    // the bucket's rules, as of the last refresh
	queued      bool      // whether a fold is queued
	nextVersion int64     // lowest version that the next append may return; commits in progress may take lower numbers
	foldedEpoch int64     // 1 plus the number of the last epoch that a fold in progress moves to files

	appends  appendQueue
	encoders sync.Pool // *tail.Encoder values for reuse

	unread atomic.Bool // whether Recover found rows of the table that nobody has read since; changed with e.mu held
}

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

// renameAll calls renameColumns for the batches that lack the schema stored. It takes ownership of the rows.
func renameAll(meta table.Metadata, stored *arrow.Schema, rows []arrow.RecordBatch) (_ []arrow.RecordBatch, err error) {
	for i, batch := range rows {
		if batch.Schema() == stored || batch.Schema().Equal(stored) {
			continue
		}
		if rows[i], err = renameColumns(meta, batch); err != nil {
			take.Release(rows)
			return nil, err
		}
	}
	return rows, nil
}

// renameColumns converts a batch with one of the table's older schemas: it renames columns to their current names, and
// drops removed columns. Other batches are returned unchanged. It takes ownership of the batch.
func renameColumns(meta table.Metadata, batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	for _, oldSchema := range slices.Backward(meta.Schemas()) {
		stored, err := schema.StoredSchema(oldSchema)
		if err != nil {
			return batch, err
		}
		if !stored.Equal(batch.Schema()) {
			continue
		}
		var fields []arrow.Field
		var columns []arrow.Array
		add := func(i int, name string) {
			field := stored.Field(i)
			field.Name = name
			fields, columns = append(fields, field), append(columns, batch.Column(i))
		}
		for i, f := range oldSchema.Fields() {
			if current, ok := meta.CurrentSchema().FindFieldByID(f.ID); ok {
				add(i, current.Name)
			}
		}
		if len(fields) == 0 { // all columns were replaced, so match them by name
			for i, f := range oldSchema.Fields() {
				if _, ok := meta.CurrentSchema().FindFieldByName(f.Name); ok {
					add(i, f.Name)
				}
			}
		}
		if len(fields) == 0 {
			return batch, nil // the caller reports the mismatch
		}
		defer batch.Release()
		return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, batch.NumRows()), nil
	}
	return batch, nil
}

// castTail casts rows from the tail to the schema stored. It takes ownership of the rows.
func castTail(rows []arrow.RecordBatch, stored *arrow.Schema) ([]arrow.RecordBatch, error) {
	for i, batch := range rows {
		if batch.Schema() == stored || batch.Schema().Equal(stored) {
			continue
		}
		converted, err := schema.CastStored(batch, stored)
		if err != nil {
			take.Release(rows)
			return nil, fmt.Errorf("rows in the tail no longer fit the table, because another process changed its columns: evolve the columns until the rows fit: %w", err)
		}
		batch.Release()
		rows[i] = converted
	}
	return rows, nil
}

// pin protects files from removal: files that a reader uses, or files written for a later commit.
type pin struct{ created time.Time }

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

// load returns the table's current state, and updates the entry from it. e.mu must be held.
func (e *Entry) load(ctx context.Context) (*table.Table, error) {
	t, err := e.tables.load(ctx, e.Namespace, e.Name)
	if errors.Is(err, icecat.ErrNotFound) {
		e.detach()
		return nil, err
	}
	if err != nil || t.MetadataLocation() == e.state.location {
		return t, err
	}
	return t, e.setState(ctx, t)
}

// advance sets the entry's state to the table after, which a commit of the table before returned. If the entry has seen
// another state in the meantime, advance loads the table. e.mu must be held.
func (e *Entry) advance(ctx context.Context, before, after *table.Table) error {
	switch e.state.location {
	case after.MetadataLocation():
		return nil
	case before.MetadataLocation():
		return e.setState(ctx, after)
	}
	_, err := e.load(ctx)
	return err
}
