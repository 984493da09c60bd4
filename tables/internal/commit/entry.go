package commit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/tail"
	"github.com/go-partd/partd/tables/internal/take"
)

// maxEntries limits the number of unused tables without rows in the tail that stay in memory.
const maxEntries = 1 << 14

// lastEpoch is greater than every other epoch.
const lastEpoch = math.MaxInt64

// Entry is the state of a table in memory while it is in use, or has rows in the tail.
type Entry struct {
	tables *Tables
	icecat.TableName
	refs int // guarded by Tables.mu

	// Commits is held during every commit to the table in this process.
	Commits sync.Mutex

	mu          sync.Mutex // guards the fields below, and orders appends to the tail
	state       state
	log         *tail.Log // nil if the tail has no rows of the table
	bucketRules string    // the bucket's rules at the last refresh
	queued      bool      // a fold was requested

	encoders sync.Pool // of *tail.Encoder, for appends
}

// Release drops a reference from Acquire.
func (e *Entry) Release() {
	// Only a concurrent Acquire can race with the last release.
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tables.mu.Lock()
	defer e.tables.mu.Unlock()
	if e.refs--; e.refs == 0 && len(e.tables.entries) > maxEntries && (e.log == nil || e.tables.Tail.Retire(e.log)) {
		delete(e.tables.entries, e.TableName)
	}
}

// Tail contains the rows of a table that are only in the tail.
type Tail struct {
	Rows        []arrow.RecordBatch // in the stored types; the caller of View must release them
	Fingerprint string              // equal texts mean equal rows

	Deduped, Replaces bool // Rows are deduplicated rows from Cache

	log *tail.Log
	key string
}

// Cache stores deduplicated rows for other readers of the same state of the table.
func (t *Tail) Cache(deduped arrow.RecordBatch, replaces bool) { t.log.Cache(t.key, deduped, replaces) }

// View returns the table's current state and its definition. If withRows is true, it also returns the rows
// that are only in the tail.
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
	if rows.Rows, rows.Replaces, rows.Deduped = e.log.Cached(rows.key); !rows.Deduped {
		rows.Rows, err = e.rows(ctx, t.Metadata(), lastEpoch)
	}
	if err == nil {
		rows.Rows, err = castTail(rows.Rows, d.Stored)
	}
	return t, d, rows, err
}

// rows returns the rows that are only in the tail, up to an epoch. The caller must release them. e.mu must be
// held.
func (e *Entry) rows(ctx context.Context, meta table.Metadata, upTo int64) ([]arrow.RecordBatch, error) {
	rows, err := e.log.Rows(ctx, e.state.folded, upTo)
	for i := 0; i < len(rows) && err == nil; i++ {
		if rows[i].Schema() != e.state.def.Stored && !rows[i].Schema().Equal(e.state.def.Stored) {
			rows[i], err = renameColumns(meta, rows[i])
		}
	}
	if err != nil {
		take.Release(rows)
		return nil, err
	}
	return rows, nil
}

// renameColumns renames the columns of a batch with an older schema to their current names, and drops removed
// columns. It returns the batch unchanged if it matches no older schema. It takes ownership of the batch.
func renameColumns(meta table.Metadata, batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	for _, sc := range slices.Backward(meta.Schemas()) {
		stored, err := schema.StoredSchema(sc)
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
		for i, f := range sc.Fields() {
			if current, ok := meta.CurrentSchema().FindFieldByID(f.ID); ok {
				add(i, current.Name)
			}
		}
		if len(fields) == 0 { // all columns were replaced, so they can only be matched by name
			for i, f := range sc.Fields() {
				if _, ok := meta.CurrentSchema().FindFieldByName(f.Name); ok {
					add(i, f.Name)
				}
			}
		}
		if len(fields) == 0 {
			return batch, nil // it matches no schema; the caller reports that
		}
		defer batch.Release()
		return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, batch.NumRows()), nil
	}
	return batch, nil
}

// castTail casts rows of the tail to a stored schema. It takes ownership of the rows.
func castTail(rows []arrow.RecordBatch, stored *arrow.Schema) ([]arrow.RecordBatch, error) {
	for i, batch := range rows {
		if batch.Schema() == stored || batch.Schema().Equal(stored) {
			continue
		}
		converted, err := schema.CastStored(batch, stored)
		if err != nil {
			take.Release(rows)
			return nil, fmt.Errorf("rows in the tail no longer fit the table, because another process changed it: evolve its columns until they fit: %w", err)
		}
		batch.Release()
		rows[i] = converted
	}
	return rows, nil
}

// pin protects files that were in use when the pin was created: the files of a reader's view, and files
// written for a future commit.
type pin struct{ created time.Time }

// Pin protects files until unpin is called.
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

// Pinned returns the number of pins and the time of the oldest, or the current time if there are no pins.
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

// Acquire returns the entry of a table. The caller must release it.
func (s *Tables) Acquire(n icecat.TableName) (*Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, partd.ErrClosed
	}
	e := s.entries[n]
	if e == nil {
		e = &Entry{tables: s, TableName: n}
		s.entries[n] = e
	}
	e.refs++
	return e, nil
}

// AcquirePinned acquires an entry, and pins the files that are written for it. The caller must call release.
func (s *Tables) AcquirePinned(n icecat.TableName) (_ *Entry, release func(), err error) {
	e, err := s.Acquire(n)
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

// load returns the table's current state, after a refresh. e.mu must be held.
func (e *Entry) load(ctx context.Context) (*table.Table, error) {
	t, err := e.tables.Catalog.Load(ctx, e.Namespace, e.Name)
	if errors.Is(err, icecat.ErrNotFound) {
		e.drop()
		return nil, err
	}
	if err != nil || t.MetadataLocation() == e.state.location {
		return t, err
	}
	return t, e.set(ctx, t)
}
