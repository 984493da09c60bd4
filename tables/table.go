package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/series"
	"github.com/go-partd/partd/tables/internal/take"
)

// Table is a table, an old version of it, or what a snapshot has. Where no version was chosen, each
// call sees what is there when it starts.
type Table struct {
	b    *Bucket
	name tableName
	old  *Version // nil: as it is now
	uuid string   // of the table with the old version

	snapshot, location string // of the table in a snapshot of the bucket
}

// Table returns a table as it is, or as it was. A nil At is as it is. A time that rows in the
// tail belong to waits for a change of the table that is under way: the reader whose rows
// make that change must not ask for one.
func (b *Bucket) Table(ctx context.Context, name string, chosen ...At) (_ *Table, err error) {
	defer failed(&err, "open table", b.Name(), name)
	n, err := b.check(name)
	if err != nil {
		return nil, err
	}
	a := combined(chosen)
	if a.snapshot != "" {
		if a.version != nil || !a.time.IsZero() {
			return nil, errors.New("a snapshot excludes a version and a time")
		}
		t := &Table{b: b, name: n, snapshot: a.snapshot}
		_, err := t.pinned(ctx)
		return t, err
	}
	cur, err := b.store().cat.Load(ctx, n.Namespace, n.Name)
	if err != nil {
		return nil, notFound(err)
	}
	t := &Table{b: b, name: n}
	if a.version == nil && a.time.IsZero() {
		return t, nil
	}
	meta := cur.Metadata()
	t.uuid, t.old = meta.TableUUID().String(), a.version
	if !a.time.IsZero() {
		if a.version != nil {
			return nil, errors.New("a version and a time exclude each other")
		}
		e, err := b.store().commits.Acquire(n)
		if err != nil {
			return nil, err
		}
		defer e.Release()
		cur, stay, err := e.FoldUntil(ctx, a.time)
		if err != nil {
			return nil, notFound(err)
		}
		if stay && b.s.opts.Catalog != "" {
			return nil, fmt.Errorf("%w: rows that had come by then wait in a tail, until the Store that writes it folds them", ErrReadOnly)
		}
		if stay { // nothing comes to this store any more
			return &Table{b: b, name: n}, nil
		}
		meta = cur.Metadata()
		snap := commit.AsOf(meta, a.time)
		if snap == nil {
			return nil, fmt.Errorf("there is no version as old as %s, without rows that came later: %w", a.time.UTC().Format(time.RFC3339Nano), ErrNotFound)
		}
		t.old = new(Version(snap.SequenceNumber))
	}
	_, err = snapshotOf(meta, *t.old)
	return t, err
}

func combined(chosen []At) (a at) {
	for _, c := range chosen {
		if c != nil {
			c(&a)
		}
	}
	return a
}

// notFound is the error for a table that the catalog does not have.
func notFound(err error) error {
	if errors.Is(err, icecat.ErrNotFound) {
		return ErrNotFound
	}
	return err
}

// view is one state of a table.
type view struct {
	of       *Table
	t        *table.Table
	snapshot *table.Snapshot // of an old version, else nil
	def      *definition.Definition
	tail     *commit.Tail
	rows     []arrow.RecordBatch // in the tail; released by whoever asked for the view

	found []table.FileScanTask // see tasks

	series   *series.Series // nil: the rows have no order
	replaces bool           // rows of the tail may take the place of some in files
}

// view returns the table's state, with rows if wanted.
func (t *Table) view(ctx context.Context, withRows bool) (v *view, err error) {
	t = t.made()
	v = &view{of: t}
	if t.snapshot != "" {
		if v.t, err = t.pinned(ctx); err != nil {
			return nil, err
		}
		return v, v.describe(v.t.Schema())
	}
	e, err := t.bucket().store().commits.Acquire(t.name)
	if err != nil {
		return nil, err
	}
	defer e.Release()
	if v.t, v.tail, err = e.View(ctx, withRows && t.old == nil); err != nil {
		return nil, notFound(err)
	}
	v.rows = v.tail.Rows
	defer func() {
		if err != nil {
			take.Release(v.rows)
		}
	}()
	columns := v.t.Schema()
	if t.old != nil {
		if v.t.Metadata().TableUUID().String() != t.uuid {
			return nil, fmt.Errorf("the table was deleted and made anew: %w", ErrNotFound)
		}
		if v.snapshot, err = snapshotOf(v.t.Metadata(), *t.old); err != nil {
			return nil, err
		}
		if id := v.snapshot.SchemaID; id != nil {
			columns = v.t.Schemas()[*id]
		}
	}
	return v, v.describe(columns)
}

// describe says how the rows are read.
func (v *view) describe(columns *iceberg.Schema) (err error) {
	if v.def, err = definition.At(v.t.Metadata(), columns); err == nil {
		v.series = series.New(v.def, v.t, v.of.b.s.opts.Memory, v.at()...)
	}
	return err
}

// tasks returns the files of the state, nil if it has none. They are found once, and the caller
// does not change the slice.
func (v *view) tasks(ctx context.Context) (_ []table.FileScanTask, err error) {
	if v.found == nil && v.t.CurrentSnapshot() != nil {
		v.found, err = datafile.Tasks(ctx, v.t, v.at()...)
	}
	return v.found, err
}

// at chooses the version of a view.
func (v *view) at() []table.ScanOption {
	if v.snapshot == nil {
		return nil
	}
	return []table.ScanOption{table.WithSnapshotID(v.snapshot.SnapshotID)}
}

// look returns what f finds in a table's state.
func look[T any](ctx context.Context, t *Table, op string, f func(*view) (T, error)) (out T, err error) {
	v, err := t.view(ctx, false)
	if err == nil {
		out, err = f(v)
	}
	if err != nil {
		return out, t.error(op, err)
	}
	return out, nil
}

// deduped is view, with the tail's rows as they are read.
func (t *Table) deduped(ctx context.Context) (*view, error) {
	v, err := t.view(ctx, true)
	if err != nil {
		return nil, err
	}
	if err := v.dedupTail(ctx); err != nil {
		take.Release(v.rows)
		return nil, err
	}
	return v, nil
}

// dedupTail makes of the tail's rows one batch where they have an order; see
// series.DedupTail.
func (v *view) dedupTail(ctx context.Context) error {
	if v.series == nil || len(v.rows) == 0 {
		return nil
	}
	if v.tail.Deduped {
		v.replaces = v.tail.Replaces
		return nil
	}
	one, err := take.Concat(v.rows)
	if err == nil {
		one, v.replaces, err = v.series.DedupTail(ctx, one)
	}
	take.Release(v.rows)
	v.rows = nil
	if err == nil {
		v.rows = []arrow.RecordBatch{one}
		v.tail.Keep(one, v.replaces)
	}
	return err
}

func (t *Table) error(op string, err error) error {
	return &OpError{Op: op, Bucket: t.bucket().name, Table: t.made().name.Name, Err: err}
}

// Schema returns the columns in the types that readers get: those that were put,
// but for encodings such as dictionaries.
func (t *Table) Schema(ctx context.Context) (*arrow.Schema, error) {
	return look(ctx, t, "read the schema of", func(v *view) (*arrow.Schema, error) { return v.def.Logical, nil })
}

// SchemaAsPut is Schema with dictionaries for the columns that the put which made the
// table had as such; their values are for [AsDictionaries].
func (t *Table) SchemaAsPut(ctx context.Context) (*arrow.Schema, error) {
	return look(ctx, t, "read the schema of", func(v *view) (*arrow.Schema, error) { return v.def.Put, nil })
}

// Info describes the table. Of an old version it has the figures of that
// version, and the metadata as it is now; in a snapshot, all is of then.
func (t *Table) Info(ctx context.Context) (TableInfo, error) {
	if t = t.made(); t.snapshot != "" {
		l, err := t.bucket().store().cat.GetAt(ctx, t.name.Namespace, t.snapshot, t.name.Name)
		if err != nil {
			return TableInfo{}, t.error("describe", noSnapshot(err))
		}
		return infoOf(l), nil
	}
	l, err := t.bucket().store().cat.Get(ctx, t.name.Namespace, t.name.Name)
	if err != nil {
		return TableInfo{}, t.error("describe", notFound(err))
	}
	i, err := t.bucket().store().info(ctx, l)
	err = cmp.Or(err, l.Damaged)
	if err == nil && t.old != nil {
		var v *view
		if v, err = t.view(ctx, false); err == nil {
			i.Version, i.Updated = *t.old, time.UnixMilli(v.snapshot.TimestampMs).UTC()
			i.Rows, i.Bytes, i.Files = icecat.Totals(v.snapshot)
		}
	}
	if err != nil {
		return TableInfo{}, t.error("describe", notFound(err))
	}
	return i, nil
}
