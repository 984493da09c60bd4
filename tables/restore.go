package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// Restore makes the bucket what it was in a snapshot, in one commit: its metadata
// and all its tables, with their rows, columns, settings and metadata. Those made
// since are deleted. With names, it restores these tables alone.
//
// A table that is still there gets a new version, with the rows of the snapshot, and
// keeps its older ones; one that was deleted is made anew. Appends to the tail wait
// meanwhile.
func (b *Bucket) Restore(ctx context.Context, snapshot string, names ...string) (err error) {
	defer failed(&err, "restore", b.Name(), "")
	if snapshot == "" {
		return errors.New("the name of the snapshot is empty")
	}
	unpin, err := b.store().commits.Pin()
	if err != nil {
		return err
	}
	defer unpin()
	b.store().commits.Appending.Lock()
	defer b.store().commits.Appending.Unlock()
	for range commit.MostAttempts {
		planned, err := b.planRestore(ctx, snapshot, names)
		if err != nil {
			return noSnapshot(err)
		}
		whole := len(names) == 0
		ns := namespaceOf(b.Name())
		err = b.store().update(ctx, func(t *Txn) error {
			t.hooks = append(t.hooks, icecat.AsPlanned(ns, snapshot, planned, whole))
			if whole {
				if err := b.restoreMetadata(t, snapshot); err != nil {
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
		if _, gone := b.planRestore(ctx, snapshot, names); gone != nil || errors.Is(err, ErrDamaged) {
			return cmp.Or(noSnapshot(gone), err) // others deleted the snapshot, and perhaps its files
		}
	}
	return ErrConflict
}

// planRestore returns the tables that are to be restored, as the snapshot has them;
// one that is to be deleted has no location.
func (b *Bucket) planRestore(ctx context.Context, snapshot string, names []string) (map[string]icecat.Listed, error) {
	ns := namespaceOf(b.Name())
	planned := map[string]icecat.Listed{}
	for _, name := range names {
		l, err := b.store().cat.GetAt(ctx, ns, snapshot, name)
		if err != nil {
			return nil, fmt.Errorf("table %q: %w", name, noSnapshot(err))
		}
		planned[name] = l
	}
	if len(names) > 0 {
		return planned, nil
	}
	changed, err := b.store().cat.Changed(ctx, ns, snapshot)
	if err != nil {
		return nil, err
	}
	for _, name := range changed {
		planned[name] = icecat.Listed{}
	}
	for _, n := range b.store().commits.WithTail(ns) {
		planned[n.Name] = icecat.Listed{}
	}
	return planned, b.store().cat.ListAt(ctx, ns, snapshot, func(l icecat.Listed) bool {
		if _, ok := planned[l.Name]; ok {
			planned[l.Name] = l
		}
		return true
	})
}

func (b *Bucket) restoreMetadata(t *Txn, snapshot string) error {
	all, err := b.Snapshots(t.ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(s SnapshotInfo) bool { return s.Name == snapshot })
	if at < 0 {
		return errNoSnapshot
	}
	return t.ChangeMetadata(b.Name(), "", MetadataChange{Set: all[at].Metadata, Replace: true})
}

// restore makes a table what a snapshot lists, nothing if that has no location.
func (t *Txn) restore(n tableName, l icecat.Listed) error {
	c, err := t.of(n)
	lost := errors.Is(err, ErrDamaged)
	if err != nil && !lost {
		return err
	}
	if l.Location == "" {
		if c.cur != nil || lost { // else somebody else deleted it
			t.delete(c)
		}
		return nil
	}
	was, err := t.s.cat.LoadAt(t.ctx, n.Namespace, n.Name, l.Location)
	if err == nil {
		step := &restoreStep{was: was, meta: l.Metadata, uuid: uuid.NewString(), location: t.s.cat.NewLocation()}
		c.Add(commit.Restores|commit.Replaces, nil, step.apply)
	}
	return err
}
