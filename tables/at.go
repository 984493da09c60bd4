package tables

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// At returns the table pinned to the state that the selectors select: a version, a snapshot or a time, which cannot be
// combined. If all selectors are nil, the result is not pinned. At ignores a state to which t is already pinned. It
// returns an error if the table or the state is missing.
//
// With [AtTime], At may wait for a put in progress. To avoid a deadlock, a reader that is passed to a put must not call
// At with AtTime for the same table.
func (t *Table) At(ctx context.Context, selectors ...At) (_ *Table, err error) {
	r, err := t.reader().at(ctx, selectors...)
	if err != nil {
		return nil, err
	}
	return &Table{t.b, t.name, r.selection}, nil
}

// at implements Table.At.
func (t *tableReader) at(ctx context.Context, selectors ...At) (_ *tableReader, err error) {
	defer wrapError(&err, "open table", t.bucket, t.name)
	n, err := t.check()
	if err != nil {
		return nil, err
	}
	current := &tableReader{core: t.core, bucket: t.bucket, name: t.name}
	result := *current
	a := selectState(selectors...)
	if a.snapshot != "" {
		if a.version != nil || !a.time.IsZero() {
			return nil, errors.New("AtSnapshot cannot be combined with AtVersion or AtTime")
		}
		result.snapshot = a.snapshot
		l, err := result.snapshotEntry(ctx)
		if err != nil {
			return nil, err
		}
		result.location = l.Location
		_, err = t.cat.LoadAt(ctx, n.Namespace, n.Name, l.Location)
		if err != nil {
			return nil, err
		}
		return &result, nil
	}
	cur, err := t.cat.Load(ctx, n.Namespace, n.Name)
	if err != nil {
		return nil, notFound(ctx, t.cat, n, err)
	}
	if a.version == nil && a.time.IsZero() {
		return current, nil
	}
	result.uuid = cur.Metadata().TableUUID().String()
	var s *table.Snapshot
	switch {
	case a.version == nil:
		s, err = t.snapshotAt(ctx, n, a.time)
	case !a.time.IsZero():
		err = errors.New("AtVersion and AtTime cannot be combined")
	default:
		s, _, err = t.version(ctx, n, *a.version)
	}
	if err != nil {
		return nil, err
	}
	if s == nil {
		return current, nil
	}
	result.oldVersion, result.oldSnapshotID = new(Version(s.SequenceNumber)), s.SnapshotID
	return &result, nil
}

// version returns the snapshot of version v and the table. If some of v's rows are still in the tail (the log of recent
// appends), version first folds them: it writes them to data files.
func (s *core) version(ctx context.Context, n tableName, v Version) (*table.Snapshot, *table.Table, error) {
	entry, err := s.commits.Acquire(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	defer entry.Release()
	pending, err := entry.IsPending(ctx, int64(v))
	if err == nil && pending && s.opts.ReadOnly {
		return nil, nil, fmt.Errorf("%w: the rows of version %d are not in data files yet: wait until the Store that wrote them moves them there, or read the current state", ErrReadOnly, v)
	}
	if err == nil && pending {
		_, err = entry.Fold(ctx)
	}
	if err != nil {
		return nil, nil, notFound(ctx, s.cat, n, err)
	}
	t, err := s.cat.Load(ctx, n.Namespace, n.Name)
	if err != nil {
		return nil, nil, notFound(ctx, s.cat, n, err)
	}
	snap, err := snapshotOf(t.Metadata(), v)
	return snap, t, err
}

// snapshotAt returns the snapshot with the rows that readers saw at the given moment. It returns nil if these are the
// current rows but no snapshot has them all, because a read-only Store cannot fold its tail.
func (s *core) snapshotAt(ctx context.Context, n tableName, moment time.Time) (*table.Snapshot, error) {
	// Timestamps are in milliseconds, so another change can get the timestamp moment until its millisecond ends.
	const clockSkew = time.Second
	end := time.UnixMilli(moment.UnixMilli() + 1)
	wait := time.Until(end)
	if wait > clockSkew {
		return nil, &MomentError{Time: moment, Before: time.Now().Add(-time.Millisecond).Truncate(time.Millisecond).UTC()}
	}
	if wait > 0 {
		if err := canceled.Wait(ctx, time.After(wait)); err != nil {
			return nil, err
		}
	}
	e, err := s.commits.Acquire(ctx, n)
	if err != nil {
		return nil, err
	}
	defer e.Release()
	t, isPending, oldest, newest, err := e.FoldUntil(ctx, end.Add(-1))
	if err != nil {
		return nil, notFound(ctx, s.cat, n, err)
	}
	if isPending && s.opts.Catalog != "" {
		return nil, fmt.Errorf("%w: rows put before that time are not in data files yet: wait until the Store that wrote them moves them there", ErrReadOnly)
	}
	if isPending && newest.Before(end) {
		return nil, nil
	}
	snap, before, after := commit.SnapshotAt(t.Metadata(), moment, oldest)
	if snap != nil {
		return snap, nil
	}
	if after.IsZero() && isPending {
		after = newest
	}
	return nil, &MomentError{moment.UTC(), before, after}
}
