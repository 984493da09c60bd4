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
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/take"
)

// Fold moves the table's rows from the tail to files, and returns their number.
func (e *Entry) Fold(ctx context.Context) (int64, error) {
	if e.tables.Tail == nil || e.tables.ReadOnly {
		return 0, nil
	}
	if err := e.LockCommits(ctx); err != nil {
		return 0, err
	}
	defer e.Commits.Unlock()
	return e.fold(ctx)
}

// FoldAll folds all rows put before the call, and returns the table. The lock e.Commits must be held.
func (e *Entry) FoldAll(ctx context.Context) (*table.Table, error) {
	if _, err := e.fold(ctx); err != nil {
		return nil, err
	}
	t, err := e.Current(ctx)
	if err == nil && t == nil {
		err = ErrNotFound
	}
	return t, err
}

// fold is Fold for callers that hold the lock e.Commits. It retries if the table's schema changes concurrently.
func (e *Entry) fold(ctx context.Context) (rows int64, err error) {
	if e.tables.Tail == nil || e.tables.ReadOnly {
		return 0, nil
	}
	ctx, endFold := e.tables.Folding(ctx, e.TableName)
	defer func() { endFold(rows, err) }()
	err = RetryStale(MaxAttempts, func() error {
		rows, err = e.foldOnce(ctx)
		return err
	})
	return rows, err
}

// foldInput describes the rows that a fold writes to files: the rows in the tail's epochs (numbered parts) up to epoch.
type foldInput struct {
	Basis
	t       *table.Table
	rows    []arrow.RecordBatch
	epoch   int64                // number of the last epoch to fold
	ids     map[string]time.Time // times of the puts, by ID
	oldest  time.Time            // time of the oldest put
	updated time.Time            // time of the newest put
}

func (e *Entry) foldOnce(ctx context.Context) (folded int64, err error) {
	unpin, err := e.tables.Pin()
	if err != nil {
		return 0, err
	}
	defer unpin()
	f, err := e.startFold(ctx)
	if err != nil || f == nil {
		return 0, err
	}
	defer take.Release(f.rows)
	if len(f.rows) > 0 { // if no rows remain, another process has already added the puts' rows to the table
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

// startFold ends the tail's current epoch, and returns the rows to fold, or nil if there are none.
func (e *Entry) startFold(ctx context.Context) (*foldInput, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.log == nil && !e.tables.Tail.HasAnyUnclaimed() || e.log != nil && e.log.IsEmpty() {
		return nil, canceled.Err(ctx) // avoid the load, which takes long if the metadata is large
	}
	t, err := e.load(ctx)
	if errors.Is(err, icecat.ErrNotFound) || err == nil && e.log == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	last, ok, err := e.log.EndEpoch(ctx)
	if err != nil || !ok {
		return nil, err
	}
	if last <= e.state.folded { // an earlier fold was committed, but did not remove its rows from the tail
		return nil, e.log.Forget(ctx, last)
	}
	f := &foldInput{t: t, epoch: last, ids: e.log.IDs(e.state.folded, last)}
	_, _, f.oldest, f.updated = e.log.Size(e.state.folded)
	if f.Basis, err = BasisOf(t, AnyChanges, e.tables.Catalog.NewIO()); err == nil {
		f.rows, err = e.readTail(ctx, t.Metadata(), last)
	}
	return f, err
}

func (e *Entry) commitFold(ctx context.Context, f *foldInput) (rows int64, err error) {
	defer func() { f.IO.RemoveFailed(err) }()
	batch, err := concat(f.rows, f.Definition.Stored)
	if err != nil {
		return 0, err
	}
	rows = batch.NumRows()
	var files []iceberg.DataFile
	shape, err := schema.RelaxShape(f.Definition.Columns, f.lastColumnID, f.Definition.Put, batch)
	switch {
	case err == nil && shape != nil:
		err = e.relaxSchema(ctx, f, shape)
	case err == nil:
		files, err = e.Write(ctx, e.Staged(f.t.Metadata(), f.IO), f.IO, storedRows(batch))
	}
	batch.Release() // the commit does not need the rows
	if err != nil {
		return 0, err
	}
	c := &Change{Entry: e}
	c.Add(Plain, f.IO, func(ctx context.Context, a *Attempt, cur *table.Table) (table.Metadata, error) {
		if err := f.CheckFresh(cur); err != nil {
			return nil, err
		}
		if e.tables.Tail.Folded(cur.Properties()) >= f.epoch {
			return nil, ErrNothing // an earlier fold, whose outcome was unknown, was committed
		}
		// If another process has applied one of the puts, start again without the put's rows.
		applied, err := e.tables.Catalog.PutsApplied(ctx, f.UUID, slices.Collect(maps.Keys(f.ids))...)
		if err != nil || len(applied) > 0 {
			return nil, cmp.Or(err, ErrStale)
		}
		a.addIDs(f.ids)
		if f.updated.After(a.Info.Updated) {
			a.Info.Updated = f.updated
		}
		props := iceberg.Properties{rowsUntil: strconv.FormatInt(f.updated.UnixMilli(), 10)}
		maps.Copy(props, e.tables.epochProperty(f.epoch))
		meta, err := a.AddOrdered(ctx, cur, files, props, true)
		if err != nil {
			return nil, err
		}
		return f.backdate(cur, meta, props)
	})
	return rows, e.tables.commitWithRetry(ctx, nil, c)
}

// relaxSchema changes the table's columns to the given shape. It then returns ErrStale, so that the fold is retried.
func (e *Entry) relaxSchema(ctx context.Context, f *foldInput, shape *schema.Shape) error {
	e.tables.Logger.Warn("made nested fields nullable, because rows put by an earlier version of this program have nulls there", "bucket", e.tables.BucketOf(e.Namespace), "table", e.Name)
	c := &Change{Entry: e}
	c.Add(Plain, nil, func(_ context.Context, _ *Attempt, cur *table.Table) (table.Metadata, error) {
		if err := f.CheckFresh(cur); err != nil {
			return nil, err
		}
		meta, err := definition.Reshape(cur.Metadata(), shape)
		if err != nil {
			return nil, err
		}
		return definition.WithSettings(meta, nil)
	})
	return cmp.Or(e.tables.commitWithRetry(ctx, nil, c), ErrStale)
}

// backdate returns meta with an earlier time for the fold's snapshot: the time of the newest row, but at least a second
// ago if possible. DuckDB needs the earlier time, because it ignores snapshots newer than its transaction. The
// transaction begins before DuckDB loads the table, and loading the table folds the tail. If all rows are duplicates,
// meta has no new snapshot.
func (f *foldInput) backdate(cur *table.Table, meta table.Metadata, props iceberg.Properties) (table.Metadata, error) {
	base := cur.Metadata()
	if current := meta.CurrentSnapshot(); current == nil || base.SnapshotByID(current.SnapshotID) != nil {
		return meta, nil
	}
	timestamp := f.updated
	if latest := time.Now().Add(-time.Second); timestamp.After(latest) {
		timestamp = latest
	}
	snapshot := *meta.CurrentSnapshot()
	snapshot.TimestampMs = min(snapshot.TimestampMs, max(timestamp.UnixMilli(), f.oldest.UnixMilli(), base.LastUpdatedMillis()))
	return table.UpdateTableMetadata(base, []table.Update{
		table.NewSetPropertiesUpdate(props), table.NewAddSnapshotUpdate(&snapshot),
		table.NewSetSnapshotRefUpdate(table.MainBranch, snapshot.SnapshotID, table.BranchRef, -1, -1, -1),
	}, cur.MetadataLocation())
}

// epochProperty returns the table property that records epoch as the tail's last epoch whose rows are in files.
func (s *Tables) epochProperty(epoch int64) iceberg.Properties {
	if s.NoEpoch {
		return nil
	}
	return iceberg.Properties{s.Tail.Property(): strconv.FormatInt(epoch, 10)}
}

func (a *Attempt) addIDs(ids map[string]time.Time) {
	for id, timestamp := range ids {
		a.IDs = append(a.IDs, icecat.PutID{ID: id, At: timestamp})
	}
}

// markReplaced returns a step that records epoch as folded, without adding the rows of the epoch to the table. e.mu
// must be held.
func (e *Entry) markReplaced(epoch int64) Step {
	ids := e.log.IDs(e.state.folded, epoch)
	return func(_ context.Context, a *Attempt, cur *table.Table) (table.Metadata, error) {
		if cur == nil { // another program deleted the table
			return nil, ErrNothing
		}
		a.addIDs(ids)
		return table.UpdateTableMetadata(cur.Metadata(), []table.Update{table.NewSetPropertiesUpdate(e.tables.epochProperty(epoch))}, "")
	}
}

func concat(rows []arrow.RecordBatch, stored *arrow.Schema) (arrow.RecordBatch, error) {
	cast := slices.Clone(rows)
	take.Retain(cast)
	cast, err := castTail(cast, stored)
	if err != nil {
		return nil, err
	}
	defer take.Release(cast)
	return take.Concat(cast)
}

// rowsUntil is the snapshot property that contains the time of the newest row of a fold, in milliseconds since 1970.
const rowsUntil = "partd.rows-until"

// SnapshotAt returns the snapshot that was current at a moment, or nil if there was none. It ignores snapshots that contain
// later rows.
func SnapshotAt(meta table.Metadata, moment time.Time) (current *table.Snapshot) {
	byID := map[int64]*table.Snapshot{}
	for _, s := range meta.Snapshots() {
		byID[s.SnapshotID] = &s
	}
	for entry := range meta.SnapshotLogs() {
		s, millis := byID[entry.SnapshotID], entry.TimestampMs
		if s != nil && s.Summary != nil && s.TimestampMs == millis { // if the times differ, a rollback made the snapshot current again
			if rowsMillis, err := strconv.ParseInt(s.Summary.Properties[rowsUntil], 10, 64); err == nil {
				millis = rowsMillis // backdate changed the snapshot's own time
			}
		}
		if millis > moment.UnixMilli() {
			break
		}
		current = s
	}
	return current
}

// FoldUntil returns the table. If all rows in the tail were put before the given moment, FoldUntil first folds them, so
// that a snapshot contains them. unfolded reports that FoldUntil could not fold these rows, because the store is
// read-only.
func (e *Entry) FoldUntil(ctx context.Context, moment time.Time) (t *table.Table, unfolded bool, err error) {
	t, oldest, updated, err := e.tailTimes(ctx)
	if err != nil || oldest.IsZero() || oldest.After(moment) {
		return t, false, err
	}
	if e.tables.ReadOnly {
		return t, !updated.After(moment), nil
	}
	// A fold in progress may still commit rows from before the moment.
	if err := e.LockCommits(ctx); err != nil {
		return nil, false, err
	}
	defer e.Commits.Unlock()
	if t, oldest, updated, err = e.tailTimes(ctx); err != nil || oldest.IsZero() || updated.After(moment) {
		return t, false, err
	}
	t, err = e.FoldAll(ctx)
	return t, false, err
}

// LockCommits locks e.Commits. During a rewrite of rows, this may take long. If ctx ends first, LockCommits returns an
// error.
func (e *Entry) LockCommits(ctx context.Context) error {
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

// tailTimes returns the table, and the times of the oldest and newest rows in its tail, or zero times if the tail is empty.
func (e *Entry) tailTimes(ctx context.Context) (t *table.Table, oldest, updated time.Time, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t, err = e.load(ctx); err == nil && e.log != nil {
		_, _, oldest, updated = e.log.Size(e.state.folded)
	}
	return t, oldest, updated, err
}
