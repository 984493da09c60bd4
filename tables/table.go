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

// Table is a table in its current state, or pinned to an old version or a snapshot. Unless it is pinned, each call sees
// the table as it is when the call starts. Writing methods of a pinned table return an error that wraps [ErrPinned].
type Table struct {
	b    *Bucket
	name string
	old  *Version // the selected version; nil means the current state
	uuid string   // the table's UUID when old was selected, to detect that the table was created again

	snapshot, location string // the selected snapshot, and the location of the table's metadata in the snapshot; "" if no snapshot is selected
}

// Table returns the table with the given name, whether or not it exists. The first put creates a missing table. The
// first operation reports an invalid name.
func (b *Bucket) Table(name string) *Table { return &Table{b: b, name: name} }

// Name returns the table's name.
func (t *Table) Name() string {
	if t == nil {
		return ""
	}
	return t.name
}

// Bucket returns the bucket that contains the table.
func (t *Table) Bucket() *Bucket {
	if t == nil || t.b == nil {
		return unopened().Bucket("")
	}
	return t.b
}

// check returns the table's name in the catalog, or an error if t is nil or zero, or if the table's or the bucket's name
// is invalid.
func (t *Table) check() (tableName, error) {
	if t == nil || t.b == nil {
		return tableName{}, ErrClosed
	}
	return t.b.check(t.name)
}

// checkUnpinned is like check, but also returns an error if t is pinned.
func (t *Table) checkUnpinned() (tableName, error) {
	n, err := t.check()
	if err == nil && (t.old != nil || t.snapshot != "") {
		err = ErrPinned
	}
	return n, err
}

// acquire returns the table's entry for a change; see Store.acquire. It returns an error if the store is read-only or t
// is pinned.
func (t *Table) acquire() (e entry, release func(), err error) {
	n, err := t.checkUnpinned()
	if err == nil && t.store().opts.ReadOnly {
		err = ErrReadOnly
	}
	if err != nil {
		return e, nil, err
	}
	return t.store().acquire(n)
}

// update calls Store.Update, and calls it again if the table was changed concurrently. If t is pinned, it returns an
// error of the operation op.
func (t *Table) update(ctx context.Context, op string, f func(*Txn) error) error {
	if _, err := t.checkUnpinned(); err != nil {
		return t.error(op, err)
	}
	var err error
	for range commit.MaxAttempts {
		if err = t.store().Update(ctx, f); !errors.Is(err, commit.ErrStale) {
			break
		}
	}
	return err
}

// Delete deletes the table with all its versions, even if it is damaged. To delete several tables in one commit, use
// [Bucket.Delete].
func (t *Table) Delete(ctx context.Context) error {
	return t.update(ctx, "delete", func(txn *Txn) error { return txn.Delete(t.Bucket().Name(), t.Name()) })
}

// At returns the table pinned to the state that a selector selects, or an error if the table or the state is missing.
// It ignores the state to which t itself is pinned. If all selectors are nil, the result is not pinned.
//
// With [AtTime], At can wait until a running put ends. To avoid a deadlock, the reader that is passed to a put must not
// call At with AtTime for the same table.
func (t *Table) At(ctx context.Context, selectors ...At) (_ *Table, err error) {
	defer wrapError(&err, "open table", t.Bucket().Name(), t.Name())
	n, err := t.check()
	if err != nil {
		return nil, err
	}
	b := t.b
	a := selectState(selectors...)
	if a.snapshot != "" {
		if a.version != nil || !a.time.IsZero() {
			return nil, errors.New("AtSnapshot cannot be combined with AtVersion or AtTime")
		}
		t := &Table{b: b, name: t.name, snapshot: a.snapshot}
		_, err := t.loadSnapshot(ctx)
		return t, err
	}
	cur, err := b.store().cat.Load(ctx, n.Namespace, n.Name)
	if err != nil {
		return nil, notFound(err)
	}
	t = b.Table(t.name)
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
			return b.Table(t.name), nil
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
	n, err := t.check()
	if err != nil {
		return TableInfo{}, t.error("describe", err)
	}
	if t.snapshot != "" {
		l, err := t.store().cat.GetAt(ctx, n.Namespace, t.snapshot, n.Name)
		if err != nil {
			return TableInfo{}, t.error("describe", snapshotNotFound(err))
		}
		return infoOf(l), nil
	}
	l, err := t.store().cat.Get(ctx, n.Namespace, n.Name)
	if err != nil {
		return TableInfo{}, t.error("describe", notFound(err))
	}
	i, err := t.store().info(ctx, l)
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
