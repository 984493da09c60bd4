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

// Table is a table in its current state, at an old version, or in a snapshot. Unless an old state is selected, each call
// sees the table as it is when the call starts.
type Table struct {
	b    *Bucket
	name tableName
	old  *Version // the selected version; nil means the current state
	uuid string   // the table's UUID when old was selected, to detect that the table was created again

	snapshot, location string // the selected snapshot, and the location of the table's metadata in the snapshot; "" if no snapshot is selected
}

// Table returns a table in its current state, or in the state that an At selects. A nil At selects the current state.
// With [AtTime], Table can wait until a running put ends. To avoid a deadlock, the reader that is passed to a put must
// not call Table with AtTime for the same table.
func (b *Bucket) Table(ctx context.Context, name string, selectors ...At) (_ *Table, err error) {
	defer wrapError(&err, "open table", b.Name(), name)
	n, err := b.check(name)
	if err != nil {
		return nil, err
	}
	a := selectState(selectors...)
	if a.snapshot != "" {
		if a.version != nil || !a.time.IsZero() {
			return nil, errors.New("AtSnapshot cannot be combined with AtVersion or AtTime")
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
			return nil, errors.New("AtVersion and AtTime cannot be combined")
		}
		tableEntry, err := b.store().commits.Acquire(n)
		if err != nil {
			return nil, err
		}
		defer tableEntry.Release()
		cur, unfolded, err := tableEntry.FoldUntil(ctx, a.time)
		if err != nil {
			return nil, notFound(err)
		}
		if unfolded && b.s.opts.Catalog != "" {
			return nil, fmt.Errorf("%w: rows put before that time are still in the tail of another Store: wait until that Store folds them", ErrReadOnly)
		}
		if unfolded {
			// A read-only store cannot fold. All rows in its copy of the tail were put before a.time, so the current
			// state is the state at a.time.
			return &Table{b: b, name: n}, nil
		}
		meta = cur.Metadata()
		snap := commit.SnapshotAt(meta, a.time)
		if snap == nil {
			return nil, fmt.Errorf("every version contains rows put after %s: %w", a.time.UTC().Format(time.RFC3339Nano), ErrNotFound)
		}
		t.old = new(Version(snap.SequenceNumber))
	}
	_, err = snapshotOf(meta, *t.old)
	return t, err
}

// notFound returns ErrNotFound if err is the catalog's error for a missing table, and otherwise err.
func notFound(err error) error {
	if errors.Is(err, icecat.ErrNotFound) {
		return ErrNotFound
	}
	return err
}

// Schema returns the columns in the types that readers see: as they were put, but without encodings such as dictionaries.
func (t *Table) Schema(ctx context.Context) (*arrow.Schema, error) {
	return withView(ctx, t, "read the schema of", func(v *view) (*arrow.Schema, error) { return v.def.Logical, nil })
}

// SchemaAsPut returns the columns as they were put, including dictionaries and their values, for [AsDictionaries].
func (t *Table) SchemaAsPut(ctx context.Context) (*arrow.Schema, error) {
	return withView(ctx, t, "read the schema of", func(v *view) (*arrow.Schema, error) { return v.def.Put, nil })
}

// Info describes the table in its selected state. For an old version, Metadata is nevertheless the current metadata.
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
