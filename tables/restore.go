package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// Restore restores the bucket from a snapshot, in one commit: its metadata, and all its tables with their rows,
// columns, settings and metadata. It deletes tables created after the snapshot. If names are given, it restores only
// the tables with these names.
//
// An existing table gets a new version with the snapshot's rows and keeps its older versions. A deleted table is
// created again. A table that was deleted and created again since the snapshot is replaced and loses its versions.
// Appends to the tail wait until Restore returns.
func (b *Bucket) Restore(ctx context.Context, snapshot string, names ...string) (err error) {
	defer wrapError(&err, "restore", b.Name(), "")
	if snapshot == "" {
		return errors.New("the snapshot name is empty")
	}
	unpin, err := b.store().commits.Pin()
	if err != nil {
		return err
	}
	defer unpin()
	b.store().commits.Appending.Lock()
	defer b.store().commits.Appending.Unlock()
	ns := namespaceOf(b.Name())
	for range commit.MaxAttempts {
		planned, err := planRestore(ctx, b.store().commits, ns, snapshot, names)
		if err != nil {
			return snapshotNotFound(err)
		}
		wholeBucket := len(names) == 0
		err = b.store().update(ctx, func(t *Txn) error {
			t.hooks = append(t.hooks, icecat.CheckPlan(ns, snapshot, planned, wholeBucket))
			if wholeBucket {
				if err := t.restoreMetadata(t.s, b.Name(), snapshot); err != nil {
					return err
				}
			}
			for _, name := range slices.Sorted(maps.Keys(planned)) {
				if err := t.restore(tableName{Namespace: ns, Name: name}, planned[name]); err != nil {
					return &OpError{Op: "restore", Bucket: b.Name(), Table: name, Err: err}
				}
			}
			return nil
		})
		if err == nil || !errors.Is(err, icecat.ErrReplan) && !errors.Is(err, commit.ErrStale) && !errors.Is(err, ErrDamaged) {
			return err
		}
		if _, planErr := planRestore(ctx, b.store().commits, ns, snapshot, names); planErr != nil || errors.Is(err, ErrDamaged) {
			// the snapshot was deleted concurrently, and perhaps its files too
			return cmp.Or(snapshotNotFound(planErr), err)
		}
	}
	return ErrConflict
}

// planRestore maps the name of each table to restore to the table's entry in the snapshot. An entry without a location
// means that the snapshot does not contain the table, so Restore must delete the table.
func planRestore(ctx context.Context, tables *commit.Tables, ns, snapshot string, names []string) (map[string]icecat.Listed, error) {
	planned := map[string]icecat.Listed{}
	for _, name := range names {
		l, err := tables.Catalog.GetAt(ctx, ns, snapshot, name)
		if err != nil {
			return nil, fmt.Errorf("table %q: %w", name, snapshotNotFound(err))
		}
		planned[name] = l
	}
	if len(names) > 0 {
		return planned, nil
	}
	changedNames, err := tables.Catalog.ChangedSince(ctx, ns, snapshot)
	if err != nil {
		return nil, err
	}
	for _, name := range changedNames {
		planned[name] = icecat.Listed{}
	}
	for _, n := range tables.WithTail(ctx, ns) {
		planned[n.Name] = icecat.Listed{}
	}
	return planned, tables.Catalog.ListAt(ctx, ns, snapshot, func(l icecat.Listed) bool {
		if _, ok := planned[l.Name]; ok {
			planned[l.Name] = l
		}
		return true
	})
}

// restoreMetadata replaces a bucket's metadata with the metadata in a snapshot. The store source contains the snapshot.
func (t *Txn) restoreMetadata(source *core, bucket, snapshot string) error {
	snapshots, err := source.snapshots(t.ctx, bucket)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(snapshots, func(s SnapshotInfo) bool { return s.Name == snapshot })
	if i < 0 {
		return errNoSnapshot
	}
	return t.ChangeMetadata(bucket, "", MetadataChange{Set: snapshots[i].Metadata, Replace: true})
}

// restore restores a table to the state in l, its entry in a snapshot. If l has no location, restore deletes the table.
func (t *Txn) restore(n tableName, l icecat.Listed) error {
	c, err := t.change(n)
	damaged := errors.Is(err, ErrDamaged)
	if err != nil && !damaged {
		return err
	}
	if l.Location == "" {
		if c.cur != nil || damaged { // otherwise, the table was deleted concurrently
			t.delete(c)
		}
		return nil
	}
	step, err := newRestoreStep(t.ctx, t.s.cat, t.s.cat, l)
	if err != nil {
		return err
	}
	c.Add(commit.Restores|commit.Replaces, nil, step.apply)
	return nil
}
