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

// mostEntries is how many tables are remembered that nobody uses and that have
// nothing in the tail.
const mostEntries = 1 << 14

// lastEpoch is later than all.
const lastEpoch = math.MaxInt64

// Entry is what is in memory of a table while it is in use, or has rows in the tail.
type Entry struct {
	of *Tables
	icecat.TableName
	refs int // guarded by Tables.mu

	// Commits is held by whoever commits to the table, in this process.
	Commits sync.Mutex

	mu          sync.Mutex // guards what follows, and orders appends to the tail
	state       state
	log         *tail.Log // nil: nothing is in the tail
	bucketRules string    // those of the bucket, at the last refresh
	queued      bool      // for a fold

	encoders sync.Pool // of *tail.Encoder, for who appends
}

// Release ends what Acquire began.
func (e *Entry) Release() {
	// Who has the last reference is alone with the entry, but for those who
	// come meanwhile.
	e.mu.Lock()
	defer e.mu.Unlock()
	e.of.mu.Lock()
	defer e.of.mu.Unlock()
	if e.refs--; e.refs == 0 && len(e.of.entries) > mostEntries && (e.log == nil || e.of.Tail.Retire(e.log)) {
		delete(e.of.entries, e.TableName)
	}
}

// Tail is the rows of a table that are in the tail alone.
type Tail struct {
	Rows []arrow.RecordBatch // as the table stores rows; whoever asked for them releases them
	Mark string              // the same for the same rows

	Deduped, Replaces bool // Rows are what Keep was given

	log *tail.Log
	key string
}

// Keep notes how the rows are read, for those who ask for the same rows of the same state
// of the table.
func (t *Tail) Keep(deduped arrow.RecordBatch, replaces bool) { t.log.Keep(t.key, deduped, replaces) }

// View returns the table as it is now, its definition and, if they are wanted, the rows
// that are in the tail alone.
func (e *Entry) View(ctx context.Context, wanted bool) (t *table.Table, d *definition.Definition, in *Tail, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	in = &Tail{}
	t, err = e.load(ctx)
	if d = e.state.def; err != nil || !wanted || e.log == nil {
		return t, d, in, err
	}
	in.log = e.log
	if in.Mark, err = e.log.Mark(ctx, e.state.folded); err != nil {
		return t, d, in, err
	}
	in.key = e.state.location + " " + in.Mark
	if in.Rows, in.Replaces, in.Deduped = e.log.Kept(in.key); !in.Deduped {
		in.Rows, err = e.rows(ctx, t.Metadata(), lastEpoch)
	}
	if err == nil {
		in.Rows, err = fitted(in.Rows, d.Stored)
	}
	return t, d, in, err
}

// rows returns the rows that are in the tail alone, up to an epoch. The caller
// releases them. It wants mu.
func (e *Entry) rows(ctx context.Context, meta table.Metadata, upTo int64) ([]arrow.RecordBatch, error) {
	rows, err := e.log.Rows(ctx, e.state.folded, upTo)
	for i := 0; i < len(rows) && err == nil; i++ {
		if rows[i].Schema() != e.state.def.Stored && !rows[i].Schema().Equal(e.state.def.Stored) {
			rows[i], err = carried(meta, rows[i])
		}
	}
	if err != nil {
		take.Release(rows)
		return nil, err
	}
	return rows, nil
}

// carried returns a batch, which it takes over, of an older schema of the table
// under the names that its columns have now, without those that were dropped. A
// batch of no such schema stays as it is.
func carried(meta table.Metadata, batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	for _, sc := range slices.Backward(meta.Schemas()) {
		stored, err := schema.StoredOf(sc)
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
			if now, ok := meta.CurrentSchema().FindFieldByID(f.ID); ok {
				add(i, now.Name)
			}
		}
		if len(fields) == 0 { // all columns were replaced: only the names say what is what
			for i, f := range sc.Fields() {
				if _, ok := meta.CurrentSchema().FindFieldByName(f.Name); ok {
					add(i, f.Name)
				}
			}
		}
		if len(fields) == 0 {
			return batch, nil // it fits nowhere, which is an error
		}
		defer batch.Release()
		return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, batch.NumRows()), nil
	}
	return batch, nil
}

// fitted returns rows of the tail, which it takes over, in a schema that the table stores.
func fitted(rows []arrow.RecordBatch, stored *arrow.Schema) ([]arrow.RecordBatch, error) {
	for i, batch := range rows {
		if batch.Schema() == stored || batch.Schema().Equal(stored) {
			continue
		}
		fit, err := schema.CastStored(batch, stored)
		if err != nil {
			take.Release(rows)
			return nil, fmt.Errorf("rows in the tail do not fit the table since another process changed it (evolve its columns so that they do): %w", err)
		}
		batch.Release()
		rows[i] = fit
	}
	return rows, nil
}

// pin keeps files from being removed that were of use when it was set: those of
// a reader's view, and those being written for a commit to come.
type pin struct{ since time.Time }

// Pin sets a pin until unpin is called.
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

// Pinned returns how many pins there are, and when the oldest was set, or now.
func (s *Tables) Pinned() (pins int, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := time.Now()
	for p := range s.pins {
		if p.since.Before(oldest) {
			oldest = p.since
		}
	}
	return len(s.pins), oldest
}

// Acquire returns the entry of a table, which the caller releases.
func (s *Tables) Acquire(n icecat.TableName) (*Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, partd.ErrClosed
	}
	e := s.entries[n]
	if e == nil {
		e = &Entry{of: s, TableName: n}
		s.entries[n] = e
	}
	e.refs++
	return e, nil
}

// Use acquires an entry, and keeps files that are written for it. The caller calls done.
func (s *Tables) Use(n icecat.TableName) (_ *Entry, done func(), err error) {
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

// load returns the table as it is now, with the state brought up to it. It wants mu.
func (e *Entry) load(ctx context.Context) (*table.Table, error) {
	t, err := e.of.Catalog.Load(ctx, e.Namespace, e.Name)
	if errors.Is(err, icecat.ErrNotFound) {
		e.lose()
		return nil, err
	}
	if err != nil || t.MetadataLocation() == e.state.location {
		return t, err
	}
	return t, e.set(ctx, t)
}
