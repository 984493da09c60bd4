package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// Table is a table, an old version of it, or its state in a snapshot. Without a chosen
// version, each call sees the table's state when the call starts.
type Table struct {
	b    *Bucket
	name tableName
	old  *Version // nil means the current state
	uuid string   // of the table that has the old version

	snapshot, location string // location of the table in a snapshot of the bucket
}

// Table returns a table in its current state, or in the state that an At chooses; a nil At chooses the current
// one. [AtTime] may wait for a concurrent change of the table, so a reader whose rows are being put into this
// table must not call Table with AtTime.
func (b *Bucket) Table(ctx context.Context, name string, chosen ...At) (_ *Table, err error) {
	defer wrapError(&err, "open table", b.Name(), name)
	n, err := b.check(name)
	if err != nil {
		return nil, err
	}
	a := combine(chosen)
	if a.snapshot != "" {
		if a.version != nil || !a.time.IsZero() {
			return nil, errors.New("a snapshot excludes a version and a time")
		}
		t := &Table{b: b, name: n, snapshot: a.snapshot}
		_, err := t.loadSnapshot(ctx)
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
		cur, unfolded, err := e.FoldUntil(ctx, a.time)
		if err != nil {
			return nil, notFound(err)
		}
		if unfolded && b.s.opts.Catalog != "" {
			return nil, fmt.Errorf("%w: rows put before that time are still in a tail, until the Store that owns it folds them", ErrReadOnly)
		}
		if unfolded { // this store gets no more commits
			return &Table{b: b, name: n}, nil
		}
		meta = cur.Metadata()
		snap := commit.SnapshotAt(meta, a.time)
		if snap == nil {
			return nil, fmt.Errorf("there is no version that contains only rows put by %s: %w", a.time.UTC().Format(time.RFC3339Nano), ErrNotFound)
		}
		t.old = new(Version(snap.SequenceNumber))
	}
	_, err = snapshotOf(meta, *t.old)
	return t, err
}

func combine(chosen []At) (a at) {
	for _, c := range chosen {
		if c != nil {
			c(&a)
		}
	}
	return a
}

// notFound converts the catalog's error for a missing table.
func notFound(err error) error {
	if errors.Is(err, icecat.ErrNotFound) {
		return ErrNotFound
	}
	return err
}

// Schema returns the columns in the types that readers get: the put types, without encodings such as
// dictionaries.
func (t *Table) Schema(ctx context.Context) (*arrow.Schema, error) {
	return withView(ctx, t, "read the schema of", func(v *view) (*arrow.Schema, error) { return v.def.Logical, nil })
}

// SchemaAsPut returns Schema with the dictionaries of the put that created the table. [AsDictionaries] uses
// their values.
func (t *Table) SchemaAsPut(ctx context.Context) (*arrow.Schema, error) {
	return withView(ctx, t, "read the schema of", func(v *view) (*arrow.Schema, error) { return v.def.Put, nil })
}

// Info describes the table. For an old version, it returns that version's figures and the current metadata. For
// a snapshot, everything is as in the snapshot.
func (t *Table) Info(ctx context.Context) (TableInfo, error) {
	if t = t.orZero(); t.snapshot != "" {
		l, err := t.bucket().store().cat.GetAt(ctx, t.name.Namespace, t.snapshot, t.name.Name)
		if err != nil {
			return TableInfo{}, t.error("describe", snapshotNotFound(err))
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
