package tables

import (
	"context"
	"errors"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// where returns a predicate that selects the rows for which cond is true.
func (w *rewrite) where(cond *filter.Expr) (*deletePredicate, error) {
	for _, name := range cond.Columns() {
		if _, err := schema.ColumnIndex(w.def.Logical, name); err != nil {
			return nil, err
		}
	}
	c, err := cond.Bind(w.def.Logical)
	if err != nil {
		return nil, &ArgumentError{err}
	}
	return &deletePredicate{mayMatch: c.May, columns: c.Columns, matches: func(b arrow.RecordBatch) ([]bool, error) {
		return c.Holds(int(b.NumRows()), func(name string) arrow.Array { return b.Column(b.Schema().FieldIndices(name)[0]) })
	}}, nil
}

// remove adds the deletion of the selected rows to w. It drops files that contain only selected rows, according to the
// files' bounds or the rows' positions, and rewrites other files with selected rows. If w.vectors is set, it instead
// writes deletion vectors for all files with selected rows, if possible.
func (w *rewrite) remove(ctx context.Context, deletes *deletePredicate) error {
	tasks, err := datafile.Tasks(ctx, w.t)
	if err != nil {
		return err
	}
	droppedPaths := map[string]bool{}
	drop := func(task table.FileScanTask) {
		w.oldFiles = append(w.oldFiles, task.File)
		w.result.Files++
		w.result.Deleted += task.File.Count()
		droppedPaths[task.File.FilePath()] = true
	}
	var touched []table.FileScanTask
	canMark := w.canMark(tasks) && deletes.rows == nil
	if canMark && deletes.find == nil {
		deletes = w.withPositions(deletes)
	}
	for _, task := range tasks {
		canMatch, canRemain := true, true
		if deletes.mayMatch != nil {
			canMatch, canRemain = deletes.mayMatch(datafile.BoundsOf(w.t.Schema(), task.File))
		}
		if canMatch && !canRemain && !datafile.HasDeletes(task) && !canMark {
			drop(task)
			continue
		}
		if canMatch && !deletes.hasPositions() {
			canMatch, err = w.containsDeleted(ctx, task, deletes)
			if err != nil {
				return err
			}
			if canMatch {
				w.result.Files++
			}
		}
		if canMatch || w.rewriteAll {
			touched = append(touched, task)
		}
	}
	w.positions = deletes.rows
	if deletes.find != nil {
		scan, err := w.scanOf(ctx, deletes)
		if err != nil {
			return err
		}
		w.positions, err = deletes.find(ctx, scan, w.t, touched)
		if err != nil {
			return err
		}
	}
	if deletes.hasPositions() {
		touched = slices.DeleteFunc(touched, func(task table.FileScanTask) bool {
			n := w.positions.Count(task.File.FilePath())
			if n > 0 && n == task.File.Count() && !datafile.HasDeletes(task) && !canMark {
				drop(task)
				return true
			}
			if n > 0 {
				w.result.Files++
			}
			return n == 0 && !w.rewriteAll
		})
	}
	if canMark {
		return w.writeVectors(ctx, touched)
	}
	groups, err := w.groupFiles(ctx, touched, droppedPaths)
	if err != nil {
		return err
	}
	for _, group := range groups {
		if err := w.rewriteGroup(ctx, group, deletes); err != nil {
			return err
		}
	}
	return nil
}

// withPositions returns a copy of deletes that finds the rows' positions, which deletion vectors require.
func (w *rewrite) withPositions(deletes *deletePredicate) *deletePredicate {
	located := *deletes
	located.find = func(ctx context.Context, scan *datafile.Scan, t *table.Table, tasks []table.FileScanTask) (datafile.Deleted, error) {
		return deletes.locate(ctx, scan, t, tasks, w.e.s.opts.Memory/8)
	}
	return &located
}

// groupFiles groups the files to rewrite; the files of a group are rewritten together. Rows with the same time and keys
// must stay in order of arrival, but the new files come after all other files. So if the table can have such rows, a
// group includes all later files that overlap one of its files.
func (w *rewrite) groupFiles(ctx context.Context, touched []table.FileScanTask, droppedPaths map[string]bool) (groups [][]table.FileScanTask, err error) {
	if !w.keepsArrivalOrder() {
		for _, task := range touched {
			groups = append(groups, []table.FileScanTask{task})
		}
		return groups, nil
	}
	isTouched := map[string]bool{}
	for _, task := range touched {
		isTouched[task.File.FilePath()] = true
	}
	files, err := w.series(w.t).Files(ctx)
	if err != nil {
		return nil, err
	}
	var affected []*series.File
	for _, f := range files { // in order of arrival
		path := f.Data().FilePath()
		if !droppedPaths[path] && (isTouched[path] || len(series.OverlappingFiles(affected, []*series.File{f})) > 0) {
			affected = append(affected, f)
		}
	}
	for _, overlapping := range series.OverlappingGroups(affected) {
		groups = append(groups, series.TasksOf(overlapping))
	}
	return groups, nil
}

// scanOf returns a scan of the columns that deletes needs, in the row groups that can contain rows to delete.
func (w *rewrite) scanOf(ctx context.Context, deletes *deletePredicate) (*datafile.Scan, error) {
	scan, err := datafile.NewScan(ctx, w.t, w.t.Schema(), deletes.columns, nil)
	if err != nil {
		return scan, err
	}
	scan.MayMatch = deletes.mayMatch
	return scan, nil
}

// containsDeleted reports whether a file contains rows to delete.
func (w *rewrite) containsDeleted(ctx context.Context, task table.FileScanTask, deletes *deletePredicate) (bool, error) {
	scan, err := w.scanOf(ctx, deletes)
	if err != nil {
		return false, err
	}
	for b, err := range scan.Read(ctx, datafile.ToRead(w.t, []table.FileScanTask{task})) {
		if err != nil {
			return false, err
		}
		deleted, err := deletes.matches(b)
		b.Release()
		if err != nil || slices.Contains(deleted, true) {
			return err == nil, err
		}
	}
	return false, nil
}

// rewriteGroup rewrites a group of files without the rows to delete.
func (w *rewrite) rewriteGroup(ctx context.Context, group []table.FileScanTask, deletes *deletePredicate) error {
	dropDeleted := batches.Map(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		defer b.Release()
		kept, err := deletes.remaining(b)
		if err != nil {
			return kept, err
		}
		w.result.Deleted += b.NumRows() - kept.NumRows()
		return kept, nil
	})
	if deletes.hasPositions() { // reading the files already omits the rows to delete
		dropDeleted = func(rows batches.Seq) batches.Seq { return rows }
	}
	for _, task := range group {
		w.oldFiles = append(w.oldFiles, task.File)
		w.result.Deleted += w.positions.Count(task.File.FilePath())
	}
	var files []iceberg.DataFile
	var err error
	if w.def.Order == nil {
		files, err = datafile.Write(ctx, w.writer(), w.def.WithLineage(w.t.Metadata().Version()).Stored, dropDeleted(datafile.ReadRows(ctx, w.t, group, w.positions)), 0)
	} else {
		current := w.series(w.t)
		var inputs []*series.File
		for _, task := range group {
			f := current.File(task)
			f.Deleted = w.positions
			inputs = append(inputs, f)
		}
		files, err = current.Rewrite(ctx, inputs, w.series(w.writer()), sorted.All, dropDeleted)
	}
	w.newFiles = append(w.newFiles, files...)
	return err
}

// removeByMode is like remove, but prefers deletion vectors if the table's format version supports them, the property
// modeKey (such as write.merge.mode) requests them and w changes no columns. If the positions of the rows need too much
// memory, removeByMode rewrites the files instead.
func (w *rewrite) removeByMode(ctx context.Context, deletes *deletePredicate, modeKey string) error {
	meta := w.t.Metadata()
	w.vectors = meta.Version() >= 3 && meta.Properties().Get(modeKey, "") == table.WriteModeMergeOnRead && w.evolveStep == nil
	err := w.remove(ctx, deletes)
	if w.vectors && errors.Is(err, partd.ErrTooLarge) {
		w.vectors = false
		err = w.remove(ctx, deletes)
	}
	return err
}
