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
