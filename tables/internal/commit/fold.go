package commit

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/take"
)

// Fold moves a table's rows from the tail into its files, and returns how many.
func (e *Entry) Fold(ctx context.Context) (int64, error) {
	e.Commits.Lock()
	defer e.Commits.Unlock()
	return e.fold(ctx)
}

// Folded returns the table once what was acknowledged before is in its files. It wants
// Commits.
func (e *Entry) Folded(ctx context.Context) (*table.Table, error) {
	if _, err := e.fold(ctx); err != nil {
		return nil, err
	}
	t, err := e.Current(ctx)
	if err == nil && t == nil {
		err = ErrNotFound
	}
	return t, err
}

// fold is Fold for who has Commits. Where somebody else changes the table's schema
// meanwhile, the rows are written again.
func (e *Entry) fold(ctx context.Context) (rows int64, err error) {
	if e.of.Tail == nil || e.of.ReadOnly {
		return 0, nil
	}
	ctx, end := e.of.Folding(ctx, e.TableName)
	defer func() { end(rows, err) }()
	err = RetryStale(MostAttempts, func() error {
		rows, err = e.foldOnce(ctx)
		return err
	})
	return rows, err
}

// folding is the rows of the tail's epochs up to one, on their way into files.
type folding struct {
	Basis
	t       *table.Table
	rows    []arrow.RecordBatch
	stored  *arrow.Schema
	epoch   int64
	ids     map[string]time.Time
	since   time.Time // when the oldest of the rows was put
	updated time.Time
}

func (e *Entry) foldOnce(ctx context.Context) (folded int64, err error) {
	unpin, err := e.of.Pin()
	if err != nil {
		return 0, err
	}
	defer unpin()
	f, err := e.foldable(ctx)
	if err != nil || f == nil {
		return 0, err
	}
	defer take.Release(f.rows)
	if len(f.rows) > 0 { // else others applied all the puts
		if folded, err = e.commitFold(ctx, f); err != nil {
			return 0, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if folded > 0 {
		if _, err := e.load(ctx); err != nil {
			return 0, err
		}
	}
	if e.log == nil {
		return folded, nil
	}
	return folded, e.log.Forget(ctx, f.epoch)
}

// foldable ends the tail's epoch, and returns the rows to fold, nil if there are none.
func (e *Entry) foldable(ctx context.Context) (*folding, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.load(ctx)
	if errors.Is(err, icecat.ErrNotFound) || err == nil && e.log == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	last, ok, err := e.log.Turn(ctx)
	if err != nil || !ok {
		return nil, err
	}
	if last <= e.state.folded { // by a fold whose outcome was unknown, or that could not tidy up
		return nil, e.log.Forget(ctx, last)
	}
	f := &folding{t: t, stored: e.state.def.Stored, epoch: last, ids: e.log.IDs(e.state.folded, last)}
	_, _, f.since, f.updated = e.log.Size(e.state.folded)
	if f.Basis, err = BasisOf(t, Anything, e.of.Catalog.NewIO()); err == nil {
		f.rows, err = e.rows(ctx, t.Metadata(), last)
	}
	return f, err
}

// commitFold writes the files of a fold, and commits it.
func (e *Entry) commitFold(ctx context.Context, f *folding) (rows int64, err error) {
	defer func() { f.IO.RemoveFailed(err) }()
	one, err := oneBatch(f.rows, f.stored)
	if err != nil {
		return 0, err
	}
	rows = one.NumRows()
	files, err := e.writeTail(ctx, e.Staged(f.t.Metadata(), f.IO), f.IO, one)
	if err != nil {
		return 0, err
	}
	c := &Change{Entry: e}
	c.Add(Plain, f.IO, func(ctx context.Context, a *Attempt, cur *table.Table) (table.Metadata, error) {
		if err := f.Holds(cur); err != nil {
			return nil, err
		}
		if e.of.Tail.Folded(cur.Properties()) >= f.epoch {
			return nil, ErrNothing // an earlier fold, whose outcome was unknown, took effect
		}
		// A put that another Store applied meanwhile must not count twice.
		applied, err := e.of.Catalog.PutsApplied(ctx, f.UUID, slices.Collect(maps.Keys(f.ids))...)
		if err != nil || len(applied) > 0 {
			return nil, cmp.Or(err, ErrStale)
		}
		a.discard(f.ids)
		if f.updated.After(a.Info.Updated) {
			a.Info.Updated = f.updated
		}
		props := iceberg.Properties{rowsUntil: strconv.FormatInt(f.updated.UnixMilli(), 10)}
		maps.Copy(props, e.of.epochProperty(f.epoch))
		meta, err := a.AddOrdered(ctx, cur, files, props, true)
		if err != nil {
			return nil, err
		}
		return f.dated(cur, meta, props)
	})
	return rows, e.of.commitWithRetry(ctx, nil, c)
}

// dated gives the fold's snapshot the time of its rows. DuckDB reads the newest snapshot
// that is no younger than its transaction, and that begins before the table is loaded, and
// so before it is folded: what was put at most a second ago is dated back, if it can be.
// A fold whose rows are all duplicates makes no snapshot.
func (f *folding) dated(cur *table.Table, meta table.Metadata, props iceberg.Properties) (table.Metadata, error) {
	was := cur.Metadata()
	if made := meta.CurrentSnapshot(); made == nil || was.SnapshotByID(made.SnapshotID) != nil {
		return meta, nil
	}
	at := f.updated
	if ago := time.Now().Add(-time.Second); at.After(ago) {
		at = ago
	}
	snapshot := *meta.CurrentSnapshot()
	snapshot.TimestampMs = min(snapshot.TimestampMs, max(at.UnixMilli(), f.since.UnixMilli(), was.LastUpdatedMillis()))
	return table.UpdateTableMetadata(was, []table.Update{
		table.NewSetPropertiesUpdate(props), table.NewAddSnapshotUpdate(&snapshot),
		table.NewSetSnapshotRefUpdate(table.MainBranch, snapshot.SnapshotID, table.BranchRef, -1, -1, -1),
	}, cur.MetadataLocation())
}

// epochProperty says in a table's properties which epochs of the tail are in its files.
func (s *Tables) epochProperty(epoch int64) iceberg.Properties {
	if s.NoEpoch {
		return nil
	}
	return iceberg.Properties{s.Tail.Property(): strconv.FormatInt(epoch, 10)}
}

// discard keeps the ids of puts whose rows leave the tail.
func (a *Attempt) discard(ids map[string]time.Time) {
	for id, at := range ids {
		a.IDs = append(a.IDs, icecat.PutID{ID: id, At: at})
	}
}

// replaced is the step after which the tail's epochs up to one count no more: their rows
// were replaced. It wants mu.
func (e *Entry) replaced(epoch int64) Step {
	ids := e.log.IDs(e.state.folded, epoch)
	return func(_ context.Context, a *Attempt, cur *table.Table) (table.Metadata, error) {
		if cur == nil { // somebody else deleted the table
			return nil, ErrNothing
		}
		a.discard(ids)
		return table.UpdateTableMetadata(cur.Metadata(), []table.Update{table.NewSetPropertiesUpdate(e.of.epochProperty(epoch))}, "")
	}
}

// oneBatch returns one batch of rows of the tail in a schema that the table stores.
func oneBatch(rows []arrow.RecordBatch, stored *arrow.Schema) (arrow.RecordBatch, error) {
	fit := slices.Clone(rows)
	take.Retain(fit)
	fit, err := fitted(fit, stored)
	if err != nil {
		return nil, err
	}
	defer take.Release(fit)
	return take.Concat(fit)
}

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
