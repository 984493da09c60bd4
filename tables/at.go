package tables

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-partd/partd/tables/internal/commit"
)

// At selects a state of a table: a version, a snapshot or a time. Nil selects the current state.
type At func(*stateSelection)

type stateSelection struct {
	version  *Version
	time     time.Time
	snapshot string
}

// AtVersion selects a version.
func AtVersion(v Version) At { return func(a *stateSelection) { a.version = &v } }

// Version returns the version that AtVersion selected, or nil.
func (a At) Version() *Version { return selectState(a).version }

// AtSnapshot selects the table's state in a snapshot of its bucket. In a query, each table is read from the snapshot of
// this name in its own bucket.
func AtSnapshot(name string) At { return func(a *stateSelection) { a.snapshot = name } }

// Snapshot returns the snapshot name that AtSnapshot selected, or "".
func (a At) Snapshot() string { return selectState(a).snapshot }

// AtTime selects the version that was current at time t, to the millisecond: the newest version that contains only rows
// put by t. If all rows in the tail were put by t, they are first moved into files as a new version. A read-only Store
// with Options.Catalog cannot move them, and returns an error that wraps ErrReadOnly. If some rows in the tail were put
// later, the selected version contains none of the tail's rows.
func AtTime(t time.Time) At { return func(a *stateSelection) { a.time = t } }

// Time returns the time that AtTime selected, or the zero time.
func (a At) Time() time.Time { return selectState(a).time }

func selectState(selectors ...At) (selected stateSelection) {
	for _, a := range selectors {
		if a != nil {
			a(&selected)
		}
	}
	return selected
}

// At returns the table pinned to the state that a selector selects, or an error if the table or the state is missing.
// It ignores any state that t is already pinned to. If all selectors are nil, the result is not pinned. A version, a
// snapshot and a time cannot be combined.
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
		l, err := t.listedAt(ctx)
		if err != nil {
			return nil, err
		}
		t.location = l.Location
		_, err = b.store().cat.LoadAt(ctx, n.Namespace, n.Name, l.Location)
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
