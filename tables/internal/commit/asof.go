package commit

import (
	"context"
	"strconv"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/canceled"
)

// rowsUntil is the property of a fold's snapshot with the time, in milliseconds since 1970,
// of its newest row, which was acknowledged then.
const rowsUntil = "partd.rows-until"

// AsOf returns the snapshot that was a table's at a time, nil if there is none: the last one
// without anything that came later.
func AsOf(meta table.Metadata, at time.Time) (found *table.Snapshot) {
	byID := map[int64]*table.Snapshot{}
	for _, s := range meta.Snapshots() {
		byID[s.SnapshotID] = &s
	}
	for entry := range meta.SnapshotLogs() {
		s, when := byID[entry.SnapshotID], entry.TimestampMs
		if s != nil && s.Summary != nil && s.TimestampMs == when { // else it became the table's again
			if until, err := strconv.ParseInt(s.Summary.Properties[rowsUntil], 10, 64); err == nil {
				when = until // the snapshot itself is dated back, for DuckDB
			}
		}
		if when > at.UnixMilli() {
			break
		}
		found = s
	}
	return found
}

// FoldUntil folds the tail if all of its rows were acknowledged by a time, so that a snapshot
// has them. It returns the table then, and whether such rows stay in the tail nevertheless, of
// a store that is only read.
func (e *Entry) FoldUntil(ctx context.Context, at time.Time) (t *table.Table, stay bool, err error) {
	t, since, updated, err := e.waiting(ctx)
	if err != nil || since.IsZero() || since.After(at) {
		return t, false, err
	}
	if e.of.ReadOnly {
		return t, !updated.After(at), nil
	}
	// A fold that is under way has snapshots of before.
	if err := e.lockCommits(ctx); err != nil {
		return nil, false, err
	}
	defer e.Commits.Unlock()
	if t, since, updated, err = e.waiting(ctx); err != nil || since.IsZero() || updated.After(at) {
		return t, false, err
	}
	t, err = e.Folded(ctx)
	return t, false, err
}

// lockCommits locks Commits, which a correction has for as long as it reads and writes,
// unless ctx ends before.
func (e *Entry) lockCommits(ctx context.Context) error {
	locked := make(chan struct{})
	go func() {
		e.Commits.Lock()
		select {
		case locked <- struct{}{}:
		case <-ctx.Done():
			e.Commits.Unlock()
		}
	}()
	return canceled.Wait(ctx, locked)
}

// waiting returns the table, and the times between which the rows in its tail came, zero if
// there are none.
func (e *Entry) waiting(ctx context.Context) (t *table.Table, since, updated time.Time, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t, err = e.load(ctx); err == nil && e.log != nil {
		_, _, since, updated = e.log.Size(e.state.folded)
	}
	return t, since, updated, err
}
