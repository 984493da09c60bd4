package commit

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/state/tail"
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
	rows, _, err := e.fold(ctx, afterAllPuts)
	return rows, err
}

// afterAllPuts is later than every put.
var afterAllPuts = time.Unix(1<<40, 0)

// FoldAll folds all rows put before the call, and returns the table. The lock e.Commits must be held.
func (e *Entry) FoldAll(ctx context.Context) (*table.Table, error) {
	return e.foldAll(ctx, afterAllPuts)
}

func (e *Entry) foldAll(ctx context.Context, moment time.Time) (*table.Table, error) {
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

// fold is Fold for callers that hold e.Commits. It also returns the table if the fold changed the table. The rows that
// were put by the given moment get their own snapshot. fold retries if the table's schema changes concurrently.
func (e *Entry) fold(ctx context.Context, moment time.Time) (rows int64, t *table.Table, err error) {
	if e.tables.Tail == nil || e.tables.ReadOnly {
		return 0, nil, nil
	}
	ctx, endFold := e.tables.Folding(ctx, e.TableName)
	defer func() { endFold(rows, err) }()
	err = RetryStale(MaxAttempts, func() error {
		rows, t, err = e.foldOnce(ctx, moment)
		return err
	})
	return rows, t, err
}

// foldInput describes the rows that a fold writes to files: the rows in the tail's epochs (numbered parts) up to epoch.
type foldInput struct {
	Basis
	t       *table.Table
	rows    []arrow.RecordBatch
	read    func() ([]arrow.RecordBatch, error) // returns the rows, once
	epoch   int64                               // number of the last epoch to fold
	ids     map[string]time.Time                // times of the puts, by ID
	parts   []foldPart                          // each becomes a snapshot
	updated time.Time                           // time of the newest put

	versions []int64 // the versions that the puts returned, in order; none if Iceberg's format does not number versions
}

// foldPart is rows of consecutive puts. The last part has all remaining rows, whatever its Rows.
type foldPart struct {
	tail.Span
	files []iceberg.DataFile
}

// maxMoments is the maximum number of snapshots that a read of a past moment makes.
const maxMoments = 50

// partsFor divides the rows to fold for a reader of a moment. Each put gets a part, so that other moments can be read
// later, too. If there are more than maxMoments puts, there is one part for the puts by the moment, and one for the rest.
func partsFor(puts []tail.Span, moment time.Time) (parts []foldPart) {
	for i, p := range puts {
		isMoment := i > 0 && p.First.After(moment) && !puts[i-1].First.After(moment)
		if i == 0 || isMoment || len(puts) <= maxMoments && moment != afterAllPuts {
			parts = append(parts, foldPart{Span: p})
			continue
		}
		last := &parts[len(parts)-1]
		last.Rows, last.Last = last.Rows+p.Rows, p.Last
	}
	return parts
}

// foldOnce loads the table only once, unless another process commits to it during the fold.
func (e *Entry) foldOnce(ctx context.Context, moment time.Time) (folded int64, t *table.Table, err error) {
	unpin, err := e.tables.Pin()
	if err != nil {
		return 0, nil, err
	}
	defer unpin()
	f, err := e.startFold(ctx, moment)
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.foldedEpoch = 0
	}()
	if err != nil || f == nil {
		return 0, nil, err
	}
	defer take.Release(f.rows)
	if len(f.rows) > 0 { // if no rows remain, another process has already added the puts' rows to the table
		if folded, t, err = e.commitFold(ctx, f); err != nil {
			return 0, nil, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if t != nil {
		err = e.advance(ctx, f.t, t)
	} else if folded > 0 { // an earlier fold was committed
		_, err = e.load(ctx)
	}
	if err != nil {
		return 0, nil, err
	}
	if e.log == nil {
		return folded, t, nil
	}
	return folded, t, e.log.Forget(ctx, f.epoch)
}

// startFold ends the tail's current epoch, and returns the rows to fold, or nil if there are none.
func (e *Entry) startFold(ctx context.Context, moment time.Time) (*foldInput, error) {
	f, err := e.endEpoch(ctx, moment)
	if f == nil || err != nil {
		return f, err
	}
	rows, err := f.read() // without e.mu, so that appends need not wait
	if err == nil {
		f.rows, err = renameAll(f.t.Metadata(), f.Definition.Stored, rows)
	}
	return f, err
}

// endEpoch is startFold, but does not read the rows.
func (e *Entry) endEpoch(ctx context.Context, moment time.Time) (*foldInput, error) {
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
	f.versions = e.log.Versions(e.state.folded, last)
	if f.parts = partsFor(e.log.Spans(e.state.folded, last), moment); f.parts == nil { // no put had rows
		_, _, oldest, _ := e.log.Size(e.state.folded)
		f.parts = []foldPart{{Span: tail.Span{First: oldest}}}
	}
	f.updated = f.parts[len(f.parts)-1].Last
	// Appends during the fold get versions after those of the fold.
	e.foldedEpoch = last + 1
	parts := int64(len(f.parts))
	e.nextVersion = max(e.nextVersion, highest(f.versions)+2*parts-1, e.state.last+parts+1)
	if f.Basis, err = BasisOf(t, AnyChanges, e.tables.Catalog.NewIO()); err == nil {
		f.read, err = e.log.Reader(ctx, e.state.folded, last)
	}
	return f, err
}

// commitFold returns the number of rows that it folded, and the new table, or nil if the table already contains the
// rows.
func (e *Entry) commitFold(ctx context.Context, f *foldInput) (rows int64, t *table.Table, err error) {
	defer func() { f.IO.RemoveFailed(err) }()
	batch, err := concat(f.rows, f.Definition.Stored)
	if err != nil {
		return 0, nil, err
	}
	rows = batch.NumRows()
	start := int64(0)
	for i := 0; i < len(f.parts) && err == nil; i++ {
		end := start + f.parts[i].Rows
		if i == len(f.parts)-1 {
			end = rows
		}
		part := batch.NewSlice(start, end)
		f.parts[i].files, err = e.Write(ctx, e.Staged(f.t.Metadata(), f.IO), f.IO, storedRows(part))
		part.Release()
		start = end
	}
	batch.Release() // the commit does not need the rows
	if err != nil {
		return 0, nil, err
	}
	c := &Change{Entry: e, base: f.t}
	c.Add(Plain, f.IO, f.apply)
	err = e.tables.commitWithRetry(ctx, nil, c)
	return rows, c.Result, err
}

func (f *foldInput) apply(ctx context.Context, a *Attempt, cur *table.Table) (table.Metadata, error) {
	if err := f.CheckFresh(cur); err != nil {
		return nil, err
	}
	if a.tables.Tail.Folded(cur.Properties()) >= f.epoch {
		return nil, ErrNothing // an earlier fold, whose outcome was unknown, was committed
	}
	// If another process has applied one of the puts, start again without the put's rows.
	applied, err := a.tables.Catalog.PutsApplied(ctx, f.UUID, slices.Collect(maps.Keys(f.ids))...)
	if err != nil || len(applied) > 0 {
		return nil, cmp.Or(err, ErrStale)
	}
	a.addIDs(f.ids)
	if f.updated.After(a.Info.Updated) {
		a.Info.Updated = f.updated
	}
	first := highest(f.versions) // the version of the first snapshot, if it is free
	if len(f.parts) > 1 {
		first++ // the version that the puts returned must contain both parts
	}
	if cur, err = a.skipVersions(cur, first-1); err != nil {
		return nil, err
	}
	for i, p := range f.parts {
		props := iceberg.Properties{rowsFrom: millis(p.First), rowsUntil: millis(p.Last)}
		if i == len(f.parts)-1 {
			maps.Copy(props, a.tables.epochProperty(f.epoch))
			maps.Copy(props, promised(f.versions, cur.Metadata().LastSequenceNumber()+1))
		}
		meta, err := a.AddOrdered(ctx, cur, p.files, props, true)
		if err == nil {
			meta, err = p.backdate(a, cur, meta, props)
		}
		if err != nil {
			return nil, err
		}
		cur = a.Table(meta)
	}
	return cur.Metadata(), nil
}

// backdate returns meta with an earlier time for the fold's snapshot: the time of the newest row, but at least a second
// ago if possible. DuckDB needs the earlier time, because it ignores snapshots newer than its transaction. The
// transaction begins before DuckDB loads the table, and loading the table folds the tail. If all rows are duplicates,
// backdate adds a snapshot with the files of cur's snapshot, because a put returned its version.
func (p *foldPart) backdate(a *Attempt, cur *table.Table, meta table.Metadata, props iceberg.Properties) (table.Metadata, error) {
	base := cur.Metadata()
	if s := base.CurrentSnapshot(); s != nil && s.SnapshotID == meta.CurrentSnapshot().SnapshotID {
		var err error
		if meta, err = a.repeat(base, table.OpAppend, props); err != nil {
			return nil, err
		}
	}
	if meta.CurrentSnapshot() == nil {
		return meta, nil
	}
	timestamp := p.Last
	if latest := time.Now().Add(-time.Second); timestamp.After(latest) {
		timestamp = latest
	}
	snapshot := *meta.CurrentSnapshot()
	snapshot.TimestampMs = min(snapshot.TimestampMs, max(timestamp.UnixMilli(), p.First.UnixMilli(), base.LastUpdatedMillis()))
	return table.UpdateTableMetadata(base, []table.Update{
		table.NewSetPropertiesUpdate(props), table.NewAddSnapshotUpdate(&snapshot),
		table.NewSetSnapshotRefUpdate(table.MainBranch, snapshot.SnapshotID, table.BranchRef, -1, -1, -1),
	}, cur.MetadataLocation())
}

// FoldUntil returns the table, after it has folded all rows in the tail if some of them were put by the given moment. A
// snapshot then contains exactly the rows that were put by the moment. pending reports that FoldUntil could not fold
// the rows, because the store is read-only. oldest and updated are the times of the first and last row in the tail.
func (e *Entry) FoldUntil(ctx context.Context, moment time.Time) (t *table.Table, pending bool, oldest, updated time.Time, err error) {
	t, oldest, updated, err = e.tailTimes(ctx)
	if err != nil || oldest.IsZero() || oldest.After(moment) || e.tables.ReadOnly {
		return t, err == nil && !oldest.IsZero() && !oldest.After(moment), oldest, updated, err
	}
	// A fold in progress may still commit rows from before the moment.
	if err := e.LockCommits(ctx); err != nil {
		return nil, false, oldest, updated, err
	}
	defer e.Commits.Unlock()
	if t, oldest, updated, err = e.tailTimes(ctx); err == nil && !oldest.IsZero() && !oldest.After(moment) {
		t, err = e.foldAll(ctx, moment)
		oldest = time.Time{}
	}
	return t, false, oldest, updated, err
}

// tailTimes returns the table, and the times of the oldest and newest rows in its tail, or zero times if the tail is
// empty.
func (e *Entry) tailTimes(ctx context.Context) (t *table.Table, oldest, updated time.Time, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t, err = e.load(ctx); err == nil && e.log != nil {
		_, _, oldest, updated = e.log.Size(e.state.folded)
	}
	return t, oldest, updated, err
}
