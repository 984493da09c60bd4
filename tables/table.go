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

	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/series"
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

// Table returns a table as it is, or as it was. A nil At is as it is.
func (b *Bucket) Table(ctx context.Context, name string, chosen ...At) (_ *Table, err error) {
	defer failed(&err, "open table", b.name, name)
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
	cur, err := b.s.cat.Load(ctx, n.Namespace, n.Name)
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
		snap := cur.SnapshotAsOf(a.time.UnixMilli(), true)
		if snap == nil {
			return nil, fmt.Errorf("there is no version as old as %s: %w", a.time.UTC().Format(time.RFC3339), ErrNotFound)
		}
		v := Version(snap.SequenceNumber)
		t.old = &v
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

// snapshotOf returns the snapshot of a version.
func snapshotOf(meta table.Metadata, v Version) (*table.Snapshot, error) {
	for _, s := range meta.Snapshots() {
		if Version(s.SequenceNumber) == v {
			return &s, nil
		}
	}
	return nil, fmt.Errorf("version %d, which may have expired: %w", v, ErrNotFound)
}

// view is one state of a table.
type view struct {
	t        *table.Table
	snapshot *table.Snapshot // of an old version, else nil
	schema   *iceberg.Schema
	def      *definition.Definition
	returned *arrow.Schema
	rows     []arrow.RecordBatch // in the tail; released by whoever asked for the view
	tailMark string              // the same for the same rows of the same table

	series   *series.Series // nil: the rows have no order
	replaces bool           // rows of the tail may take the place of some in files
}

// view returns the table's state, with rows if wanted.
func (t *Table) view(ctx context.Context, withRows bool) (*view, error) {
	if t.snapshot != "" {
		pinned, err := t.pinned(ctx)
		if err != nil {
			return nil, err
		}
		v := &view{t: pinned, schema: pinned.Schema()}
		return v, v.describe(t.b.s.opts.Memory)
	}
	e, err := t.b.s.acquire(t.name)
	if err != nil {
		return nil, err
	}
	defer e.release()
	e.mu.Lock()
	defer e.mu.Unlock()
	v := &view{}
	if v.t, err = e.load(ctx); err != nil {
		return nil, notFound(err)
	}
	meta := v.t.Metadata()
	v.schema = meta.CurrentSchema()
	if t.old != nil {
		if meta.TableUUID().String() != t.uuid {
			return nil, fmt.Errorf("the table was deleted and made anew: %w", ErrNotFound)
		}
		if v.snapshot, err = snapshotOf(meta, *t.old); err != nil {
			return nil, err
		}
		if id := v.snapshot.SchemaID; id != nil {
			v.schema = v.t.Schemas()[*id]
		}
	}
	if err := v.describe(t.b.s.opts.Memory); err != nil {
		return nil, err
	}
	if t.old == nil && withRows && e.log != nil {
		if v.rows, err = e.rows(ctx, meta, lastEpoch); err != nil {
			return nil, err
		}
		n, bytes, _, _ := e.log.Size(e.state.folded)
		v.tailMark = fmt.Sprintf("%d-%d-%d", e.state.folded, n, bytes)
	}
	return v, err
}

// describe says how the rows are read.
func (v *view) describe(memory int64) (err error) {
	if v.def, err = definition.At(v.t.Metadata(), v.schema); err != nil {
		return err
	}
	v.returned, v.series = v.def.Logical, series.New(v.def, v.t, memory, v.at()...)
	return nil
}

// settled is view, with the tail's rows as they are read.
func (t *Table) settled(ctx context.Context) (*view, error) {
	v, err := t.view(ctx, true)
	if err != nil {
		return nil, err
	}
	if err := v.settleTail(ctx); err != nil {
		release(v.rows)
		return nil, err
	}
	return v, nil
}

// settleTail makes of the tail's rows one batch where they have an order; see
// series.SettleTail.
func (v *view) settleTail(ctx context.Context) error {
	if v.series == nil || len(v.rows) == 0 {
		return nil
	}
	one, err := conformAll(v.rows, v.def.Stored)
	if err == nil {
		one, v.replaces, err = v.series.SettleTail(ctx, one)
	}
	release(v.rows)
	v.rows = nil
	if err == nil {
		v.rows = []arrow.RecordBatch{one}
	}
	return err
}

func (t *Table) error(op string, err error) error {
	return &OpError{Op: op, Bucket: t.b.name, Table: t.name.Name, Err: err}
}

// Schema returns the columns in the types that readers get: those that were put,
// but for encodings such as dictionaries.
func (t *Table) Schema(ctx context.Context) (*arrow.Schema, error) {
	v, err := t.view(ctx, false)
	if err != nil {
		return nil, t.error("read the schema of", err)
	}
	return v.returned, nil
}

// SchemaAsPut is Schema with dictionaries for the columns that the put which made the
// table had as such; their values are for [AsDictionaries].
func (t *Table) SchemaAsPut(ctx context.Context) (*arrow.Schema, error) {
	v, err := t.view(ctx, false)
	if err != nil {
		return nil, t.error("read the schema of", err)
	}
	return v.def.Put, nil
}

// Info describes the table. Of an old version it has the figures of that
// version, and the metadata as it is now; in a snapshot, all is of then.
func (t *Table) Info(ctx context.Context) (TableInfo, error) {
	if t.snapshot != "" {
		l, err := t.b.s.cat.GetAt(ctx, t.name.Namespace, t.snapshot, t.name.Name)
		if err != nil {
			return TableInfo{}, t.error("describe", noSnapshot(err))
		}
		return infoOf(l), nil
	}
	l, err := t.b.s.cat.Get(ctx, t.name.Namespace, t.name.Name)
	if err != nil {
		return TableInfo{}, t.error("describe", notFound(err))
	}
	i, err := t.b.s.info(ctx, l)
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

// Versions returns the versions that there are, oldest first.
func (t *Table) Versions(ctx context.Context) ([]VersionInfo, error) {
	v, err := t.view(ctx, false)
	if err != nil {
		return nil, t.error("list the versions of", err)
	}
	meta := v.t.Metadata()
	var all []VersionInfo
	for _, s := range meta.Snapshots() {
		i := VersionInfo{Version: Version(s.SequenceNumber), Time: time.UnixMilli(s.TimestampMs).UTC()}
		if s.Summary != nil {
			i.Operation = string(s.Summary.Operation)
		}
		i.Rows, _, _ = icecat.Totals(&s)
		i.Current = i.Version == versionOf(meta)
		all = append(all, i)
	}
	return all, nil
}
