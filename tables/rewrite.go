package tables

import (
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// maxRewrites is the maximum number of attempts at a rewrite if other commits change the table concurrently.
const maxRewrites = 10

// rewrite is a pending change to some rows of a table.
type rewrite struct {
	e           tableWriter
	addedFiles  []iceberg.DataFile // files with new rows, which a later attempt can reuse
	keptOnRetry int                // number of written files that a retry keeps: those written until addedFiles was complete
	attempts    int
	locked      bool // whether this goroutine holds the lock e.Commits

	// Each attempt sets the following fields.
	commit.Basis
	t          *table.Table
	def        *definition.Definition // t's definition; after a column change, it differs from Basis.Definition
	oldFiles   []iceberg.DataFile     // files that the commit removes
	newFiles   []iceberg.DataFile     // files that the commit adds
	vectors    bool                   // whether to mark deleted rows in deletion vectors; see removeByMode
	newVectors []iceberg.DataFile     // deletion vectors that the commit adds
	oldVectors []iceberg.DataFile     // deletion vectors that newVectors replace
	positions  datafile.Deleted       // positions of the rows to delete, if deletePredicate.hasPositions; otherwise nil
	evolveStep *evolveStep            // changes the columns; nil if the columns stay the same
	rewriteAll bool                   // whether a column change requires rewriting all files
	id         string                 // ID of the SQL statement, as in PutOptions; "" means no ID
	checksum   string                 // the statement's checksum, which is recorded with id
	count      int64                  // number of rows that the statement changes, which is recorded with id
	result     RewriteResult
}

// rewrite calls plan with the table's newest state and commits the planned change. If another commit comes first and
// the plan does not allow the changes in that commit (see rewrite.Allowed), rewrite tries again. During an attempt,
// nothing else in this process can commit to the table, unless plan calls unlock. Small appends are not blocked,
// because they go to the tail.
func (t *Table) rewrite(ctx context.Context, plan func(context.Context, *rewrite) error) (result RewriteResult, err error) {
	ctx, end := t.store().opts.begin(ctx, "rewrite", t.Bucket().Name(), t.Name())
	defer func() { end(Outcome{Rows: result.Deleted + result.Written, Err: err}) }()
	e, release, err := t.acquire(ctx)
	if err != nil {
		return RewriteResult{}, err
	}
	defer release()
	w := &rewrite{e: e}
	fileIO := t.store().cat.NewIO()
	defer func() { fileIO.RemoveFailed(err) }()
	err = commit.RetryStale(maxRewrites, func() error {
		fileIO.RemoveAllAfter(w.keptOnRetry)
		return w.attempt(ctx, fileIO, plan)
	})
	return w.result, err
}

// unlock lets other goroutines commit to the table until w.commit. It does so only if the change can be committed after
// appends, and only in the first attempt: a retry keeps the lock, so that only another process can make it fail.
func (w *rewrite) unlock() {
	if w.Allowed == commit.OnlyAppends && w.attempts == 1 {
		w.end()
	}
}

func (w *rewrite) lock(ctx context.Context) error {
	if w.locked {
		return nil
	}
	err := w.e.LockCommits(ctx)
	w.locked = err == nil
	return err
}

func (w *rewrite) attempt(ctx context.Context, fileIO *icecat.FileIO, plan func(context.Context, *rewrite) error) (err error) {
	defer w.end()
	if err := w.begin(ctx, fileIO); err != nil {
		return err
	}
	if err := plan(ctx, w); err != nil {
		return err
	}
	return w.commit(ctx)
}

// begin starts an attempt: it takes the lock e.Commits, moves the tail's rows into files, and reads the table's newest
// state. The caller must call end.
func (w *rewrite) begin(ctx context.Context, fileIO *icecat.FileIO) (err error) {
	w.attempts++
	if err := w.lock(ctx); err != nil {
		return err
	}
	w.t, err = w.e.FoldAll(ctx)
	if err != nil {
		return err
	}
	w.Basis, err = commit.BasisOf(w.t, commit.OnlyAppends, fileIO)
	if err != nil {
		return err
	}
	w.def = w.Definition
	w.oldFiles, w.newFiles, w.oldVectors, w.newVectors = nil, nil, nil, nil
	w.evolveStep, w.rewriteAll, w.vectors, w.result = nil, false, false, RewriteResult{Version: versionOf(w.t.Metadata())}
	return nil
}

// end releases the lock e.Commits if it is held.
func (w *rewrite) end() {
	if w.locked {
		w.locked = false
		w.e.Commits.Unlock()
	}
}

// commit commits the planned change, unless it is empty.
func (w *rewrite) commit(ctx context.Context) error {
	if err := w.lock(ctx); err != nil {
		return err
	}
	w.newFiles = append(w.newFiles, w.addedFiles...)
	step := commit.PreparedStep{IO: w.IO, Apply: func(ctx context.Context, a *commit.Attempt, cur *table.Table) (table.Metadata, error) {
		if err := w.CheckFresh(cur); err != nil {
			return nil, err
		}
		if w.id != "" {
			if err := a.AddStatement(ctx, cur, w.id, w.checksum, w.count); err != nil {
				return nil, err
			}
		}
		if len(w.oldFiles)+len(w.newFiles)+len(w.newVectors) == 0 {
			return cur.Metadata(), nil
		}
		if err := w.checkArrivalOrder(ctx, cur); err != nil {
			return nil, err
		}
		a.Info.Updated = a.Now
		if len(w.newVectors) > 0 {
			return commit.MarkRows(ctx, cur, w.newFiles, w.newVectors, w.oldVectors)
		}
		return commit.CorrectFiles(ctx, cur, w.oldFiles, w.newFiles)
	}}
	if w.id != "" { // as for a put, exclude concurrent appends with the same ID
		step.Mode = commit.Exclusive
	}
	if p := w.evolveStep; p != nil {
		p.Basis, p.oldFiles, p.writtenFiles = w.Basis, w.oldFiles, w.newFiles
		step.Mode, step.Apply = commit.Folds, p.apply
	} else if len(w.oldFiles)+len(w.newFiles)+len(w.newVectors) == 0 && w.id == "" {
		return nil
	}
	t, err := w.e.Commit(ctx, step)
	if err != nil {
		return err
	}
	if t != nil {
		w.result.Version = versionOf(t.Metadata())
	}
	return nil
}

// evolve plans the column changes that rows with the given columns require. From then on, w reads and writes the table
// with the new columns. The caller must set w.Allowed to commit.NoChanges.
func (w *rewrite) evolve(columns *arrow.Schema) error {
	_, changes, err := w.def.Caster(columns)
	if err != nil || len(changes) == 0 {
		return err
	}
	oldMeta := w.t.Metadata()
	ev, err := evolve(oldMeta, changesOf(changes))
	if err != nil {
		return err
	}
	w.evolveStep, w.rewriteAll = &evolveStep{e: w.e, allowedBy: w.def.Settings.Evolution, shape: ev.shape, caster: ev.caster()}, ev.needsRewrite
	meta, err := w.evolveStep.evolveMetadata(oldMeta)
	if err != nil {
		return err
	}
	w.t = w.e.Staged(meta, w.IO)
	w.def, err = definition.FromMetadata(meta)
	return err
}

// series returns the Series of t, or nil if the table has no order.
func (w *rewrite) series(t *table.Table) *series.Series {
	if w.def.Order == nil {
		return nil
	}
	return series.New(w.def, t, w.e.s.opts.Memory)
}

// writer returns the table to which new files are written.
func (w *rewrite) writer() *table.Table { return w.e.Staged(w.t.Metadata(), w.IO) }

// keepsArrivalOrder reports whether there can be rows with the same time and keys that must stay in order of arrival.
func (w *rewrite) keepsArrivalOrder() bool {
	return w.def.Order != nil && !w.def.Order.HasRule()
}

// checkArrivalOrder returns commit.ErrStale if the times in w.newFiles, which come after all other files, overlap the
// times of newer rows: those added to cur after the rewrite read the table.
func (w *rewrite) checkArrivalOrder(ctx context.Context, cur *table.Table) error {
	if !w.keepsArrivalOrder() || len(w.newFiles) == 0 || w.Base == nil || *w.Base == *commit.SnapshotID(cur) {
		return nil
	}
	read, err := datafile.Files(ctx, w.t)
	if err != nil {
		return err
	}
	known, s := datafile.Paths(read), w.series(cur)
	added, err := s.Files(ctx)
	added = slices.DeleteFunc(added, func(f *series.File) bool { return known[f.Data().FilePath()] })
	if err == nil && len(series.OverlappingFiles(added, s.Written(w.newFiles))) > 0 {
		err = commit.ErrStale
	}
	return err
}

// deletePredicate selects the rows to delete from a table.
type deletePredicate struct {
	// mayMatch reports whether a file with the given bounds can contain selected rows, and whether it can contain rows
	// that are not selected.
	mayMatch func(bounds func(column string) filter.Bounds) (canMatch, canRemain bool)
	columns  []string // names of the columns that matches and find use
	// matches reports for each row whether it is selected. The batch must have the above columns, in stored types.
	matches func(arrow.RecordBatch) ([]bool, error)
	// find, if not nil, replaces matches: it returns the positions of the selected rows in the tasks' files. scan reads
	// the above columns and uses mayMatch to skip row groups.
	find func(ctx context.Context, scan *datafile.Scan, t *table.Table, tasks []table.FileScanTask) (datafile.Deleted, error)
	// rows, if not nil, contains the positions of the selected rows. The other fields must then be nil.
	rows datafile.Deleted
}

// hasPositions reports whether the selected rows are known by their positions in files, so that scans can omit them.
func (d *deletePredicate) hasPositions() bool { return d.find != nil || d.rows != nil }

func (d *deletePredicate) remaining(b arrow.RecordBatch) (arrow.RecordBatch, error) {
	keep, err := d.matches(b)
	if err != nil {
		return nil, err
	}
	for i := range keep {
		keep[i] = !keep[i]
	}
	return take.Where(b, keep)
}
