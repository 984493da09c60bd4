package commit

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// folder folds a table's tail: it moves the rows from the tail to files.
type folder struct {
	committer
	queue  chan<- *folder // tables to fold in the background
	queued bool           // whether queue contains the folder; guarded by current.mu
}

// Fold moves the table's rows from the tail to files and returns their number.
func (e *folder) Fold(ctx context.Context) (int64, error) {
	if e.tables.Tail == nil || e.tables.ReadOnly {
		return 0, nil
	}
	if err := e.LockCommits(ctx); err != nil {
		return 0, err
	}
	defer e.Commits.Unlock()
	rows, _, err := e.fold(ctx, afterAllPuts)
	return rows, err
}

// FoldAll folds all rows put before the call and returns the table. The lock e.Commits must be held.
func (e *folder) FoldAll(ctx context.Context) (*table.Table, error) {
	return e.foldAll(ctx, afterAllPuts)
}

func (e *folder) foldAll(ctx context.Context, moment time.Time) (*table.Table, error) {
	_, t, err := e.fold(ctx, moment)
	if t != nil || err != nil {
		return t, err
	}
	t, err = e.Current(ctx)
	if err == nil && t == nil {
		err = ErrNotFound
	}
	return t, err
}

// queueFold requests a fold of the table in the background, unless the queue is full. e.mu must be held.
func (e *folder) queueFold() {
	if e.queued {
		return
	}
	select {
	case e.queue <- e:
		e.queued = true
	default:
	}
}

// FoldUntil returns the table. If some rows in the tail were put by the given moment, FoldUntil first folds all rows in
// the tail, so that a snapshot contains exactly the rows put by that moment. pending means that it could not fold them
// because the store is read-only. oldest and updated are the times of the first and the last row in the tail.
func (e *folder) FoldUntil(ctx context.Context, moment time.Time) (t *table.Table, pending bool, oldest, updated time.Time, err error) {
	t, oldest, updated, err = e.tailTimes(ctx)
	if err != nil || oldest.IsZero() || oldest.After(moment) || e.tables.ReadOnly {
		return t, err == nil && !oldest.IsZero() && !oldest.After(moment), oldest, updated, err
	}
	// A fold in progress may still commit rows from before the moment.
	if err := e.LockCommits(ctx); err != nil {
		return nil, false, oldest, updated, err
	}
	defer e.Commits.Unlock()
	t, oldest, updated, err = e.tailTimes(ctx)
	if err == nil && !oldest.IsZero() && !oldest.After(moment) {
		t, err = e.foldAll(ctx, moment)
		oldest = time.Time{}
	}
	return t, false, oldest, updated, err
}

// fold is Fold for callers that hold e.Commits. If it changed the table, it also returns the table. The rows put by the
// given moment get their own snapshot. If the table's schema changes concurrently, fold retries.
func (e *folder) fold(ctx context.Context, moment time.Time) (rows int64, t *table.Table, err error) {
	if e.tables.Tail == nil || e.tables.ReadOnly {
		return 0, nil, nil
	}
	ctx, endFold := e.tables.Folding(ctx, e.TableName)
	defer func() { endFold(rows, err) }()
	err = RetryStale(MaxAttempts, func() error {
		rows, t, err = e.foldOnce(ctx, moment)
		return err
	})
	if err == nil {
		e.tables.failures.record(e.TableName, nil)
	}
	return rows, t, err
}

// foldOnce tries to fold the tail once. It loads the table only once, unless another process commits to the table
// during the fold.
func (e *folder) foldOnce(ctx context.Context, moment time.Time) (rows int64, t *table.Table, err error) {
	unpin, err := e.tables.Pin()
	if err != nil {
		return 0, nil, err
	}
	defer unpin()
	defer e.endFold()
	f, err := e.startFold(ctx, moment) // ends the tail's current epoch
	if err != nil || f == nil {
		return 0, nil, err
	}
	f.rows, err = f.read() // without e.mu, so that appends need not wait
	if err != nil {
		return 0, nil, err
	}
	defer take.Release(f.rows)
	if len(f.rows) > 0 { // no rows remain if another process has already added the puts' rows to the table
		rows, t, err = e.commitFold(ctx, f)
		if err != nil {
			return 0, nil, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.settle(ctx, f.t, t, rows > 0); err != nil {
		return 0, nil, err
	}
	if e.log == nil {
		return rows, t, nil
	}
	return rows, t, e.log.Forget(ctx, f.epoch)
}

// folding is a fold in progress. It describes the rows that the fold writes to files: those in the tail's epochs
// (numbered parts) up to epoch.
type folding struct {
	Basis
	t       *table.Table
	rows    []arrow.RecordBatch
	read    func() ([]arrow.RecordBatch, error) // returns the rows; must be called only once
	epoch   int64                               // number of the last epoch to fold
	ids     map[string]time.Time                // times of the puts, by ID
	parts   []foldPart                          // each becomes a snapshot
	updated time.Time                           // time of the newest put

	versions []int64 // the versions that the puts returned, in order; none in Iceberg's format version 1, which does not number snapshots
	first    int64   // the version that the first snapshot gets if it is free
}

// startFold ends the tail's current epoch. It returns the fold of the rows up to that epoch, or nil if there are no
// rows.
func (e *current) startFold(ctx context.Context, moment time.Time) (*folding, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.log == nil && !e.tables.Tail.HasAnyUnclaimed() || e.log != nil && e.log.IsEmpty() {
		return nil, canceled.Err(ctx) // avoid loading the table, which takes long if the metadata is large
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
	if e.tables.isFolded(t, last) {
		return nil, e.log.Forget(ctx, last)
	}
	f := &folding{t: t, epoch: last, ids: e.log.IDs(e.state.folded, last), versions: e.log.Versions(e.state.folded, last)}
	f.parts = divide(e.log.Spans(e.state.folded, last), moment)
	if f.parts == nil { // no put had rows
		_, _, oldest, _ := e.log.Size(e.state.folded)
		f.parts = []foldPart{{Span: tail.Span{First: oldest}}}
	}
	f.updated = f.parts[len(f.parts)-1].Last
	f.first = e.reserveFold(last, f.versions, int64(len(f.parts)))
	f.Basis, err = BasisOf(t, AnyChanges, e.tables.Catalog.NewIO())
	if err == nil {
		f.read, err = e.log.Reader(ctx, e.state.folded, last)
	}
	return f, err
}

// commitFold writes the rows to files and commits them. It returns their number and the new table. The table is nil if
// it already contained the rows.
func (e *committer) commitFold(ctx context.Context, f *folding) (rows int64, t *table.Table, err error) {
	defer func() { f.IO.RemoveFailed(err) }()
	rows, err = f.write(ctx, &e.site)
	if err != nil {
		return 0, nil, err
	}
	c := &Change{committer: e, base: f.t}
	c.Add(Plain, f.IO, f.apply)
	ctx = WithCaller(ctx, "", false) // the caller may have caused the fold, but other users may have put the rows
	err = e.tables.commitWithRetry(ctx, nil, c)
	return rows, c.Result, err
}

// write writes the files of each part and returns the number of rows.
func (f *folding) write(ctx context.Context, s *site) (rows int64, err error) {
	batch, err := concat(f.t.Metadata(), f.rows, f.Definition.Stored)
	if err != nil {
		return 0, err
	}
	defer batch.Release() // the commit does not need the rows
	rows = batch.NumRows()
	start := int64(0)
	for i := 0; i < len(f.parts) && err == nil; i++ {
		end := start + f.parts[i].Rows
		if i == len(f.parts)-1 {
			end = rows
		}
		part := batch.NewSlice(start, end)
		f.parts[i].files, err = s.Write(ctx, s.Staged(f.t.Metadata(), f.IO), f.IO, storedRows(part))
		part.Release()
		start = end
	}
	return rows, err
}

func (f *folding) apply(ctx context.Context, a *Attempt, cur *table.Table) (_ table.Metadata, err error) {
	if a.initial == nil || a.initial.MetadataLocation() != f.t.MetadataLocation() {
		// The table has been changed by others, or by an earlier attempt whose outcome was unknown.
		if err := f.CheckFresh(cur); err != nil {
			return nil, err
		}
		if a.tables.isFolded(cur, f.epoch) {
			return nil, ErrNothing
		}
	}
	if len(f.ids) > 0 {
		a.IDs, err = a.addFolded(ctx, a.IDs, f.ids, f.UUID)
		if err != nil {
			return nil, err
		}
	}
	if f.updated.After(a.Info.Updated) {
		a.Info.Updated = f.updated
	}
	cur, err = a.skipVersions(cur, f.first-1)
	if err != nil {
		return nil, err
	}
	for i, p := range f.parts {
		props := p.properties()
		if i == len(f.parts)-1 {
			maps.Copy(props, a.tables.epochProperty(f.epoch))
			maps.Copy(props, promised(f.versions, cur.Metadata().LastSequenceNumber()+1))
		}
		meta, err := p.add(ctx, a, cur, props)
		if err != nil {
			return nil, err
		}
		cur = a.Table(meta)
	}
	return cur.Metadata(), nil
}

// add adds a snapshot with the part's rows. If all rows are duplicates, it adds a snapshot with the same files as
// cur's: a put has already returned the number of this version, so the version must exist.
func (p *foldPart) add(ctx context.Context, a *Attempt, cur *table.Table, props iceberg.Properties) (table.Metadata, error) {
	base := cur.Metadata()
	meta, err := a.AddOrdered(ctx, cur, p.files, props, true)
	if s := base.CurrentSnapshot(); err == nil && s != nil && s.SnapshotID == meta.CurrentSnapshot().SnapshotID {
		meta, err = a.repeat(base, table.OpAppend, props)
	}
	if err != nil || meta.CurrentSnapshot() == nil {
		return meta, err
	}
	snapshot := *meta.CurrentSnapshot()
	snapshot.TimestampMs = p.backdate(snapshot.TimestampMs, base.LastUpdatedMillis())
	return table.UpdateTableMetadata(base, []table.Update{
		table.NewSetPropertiesUpdate(props), table.NewAddSnapshotUpdate(&snapshot),
		table.NewSetSnapshotRefUpdate(table.MainBranch, snapshot.SnapshotID, table.BranchRef, -1, -1, -1),
	}, cur.MetadataLocation())
}
