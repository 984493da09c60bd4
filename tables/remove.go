package tables

import (
	"cmp"
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
	"github.com/go-partd/partd/tables/internal/sorted"
	"github.com/go-partd/partd/tables/internal/take"
)

// deletePredicate says which rows of a table are deleted.
type deletePredicate struct {
	// may reports of rows, by what is known of them, whether some may be deleted, and whether
	// others may stay.
	may     func(of func(column string) filter.Bounds) (some, others bool)
	columns []string // that deletes looks at
	// deletes returns for each row whether it is deleted. The batch has these columns at
	// least, in the types that are stored.
	deletes func(arrow.RecordBatch) ([]bool, error)
}

// where is the rows for which a condition is true.
func (w *rewrite) where(cond *filter.Expr) (*deletePredicate, error) {
	for _, name := range cond.Columns() {
		if _, err := schema.Place(w.def.Logical, name); err != nil {
			return nil, err
		}
	}
	c, err := cond.Bind(w.def.Logical)
	if err != nil {
		return nil, err
	}
	return &deletePredicate{may: c.May, columns: c.Columns, deletes: func(b arrow.RecordBatch) ([]bool, error) {
		return c.Holds(int(b.NumRows()), func(name string) arrow.Array { return b.Column(b.Schema().FieldIndices(name)[0]) })
	}}, nil
}

// remove plans that rows go. Files without any stay as they are, and those whose
// bounds say that all of their rows go are not read. The others are read one at a
// time, a batch at a time.
func (w *rewrite) remove(ctx context.Context, g *deletePredicate) error {
	if w.t.CurrentSnapshot() == nil {
		return nil
	}
	tasks, err := datafile.Tasks(ctx, w.t)
	if err != nil {
		return err
	}
	dropped := map[string]bool{}
	var touched []table.FileScanTask
	for _, task := range tasks {
		some, others := g.may(datafile.BoundsOf(w.t.Schema(), task.File))
		if some && !others && !datafile.HasDeletes(task) {
			w.old = append(w.old, task.File)
			w.done.Deleted += task.File.Count()
			dropped[task.File.FilePath()] = true
			continue
		}
		if some && !w.anew {
			if some, err = w.hasAny(ctx, task, g); err != nil {
				return err
			}
		}
		if some || w.anew {
			touched = append(touched, task)
		}
	}
	groups, err := w.together(ctx, touched, dropped)
	if err != nil {
		return err
	}
	for _, group := range groups {
		if err := w.without(ctx, group, g); err != nil {
			return err
		}
	}
	return nil
}

// together returns the files to be written anew, in groups that become one. What is
// written anew comes last, and rows of equal time and keys are in the order in which
// they came: so where a table may have such rows, later files that overlap with one
// that is written anew are written with it.
func (w *rewrite) together(ctx context.Context, touched []table.FileScanTask, dropped map[string]bool) (groups [][]table.FileScanTask, err error) {
	if w.def.Order == nil || w.def.Order.Merging() != sorted.All || w.def.Order.Rule == RefuseDuplicate {
		for _, task := range touched {
			groups = append(groups, []table.FileScanTask{task})
		}
		return groups, nil
	}
	chosen := map[string]bool{}
	for _, task := range touched {
		chosen[task.File.FilePath()] = true
	}
	files, err := w.series(w.t).Files(ctx)
	if err != nil {
		return nil, err
	}
	var all []*series.File
	for _, f := range files { // in the order in which they came
		path := f.Data().FilePath()
		if !dropped[path] && (chosen[path] || len(series.Touching(all, []*series.File{f})) > 0) {
			all = append(all, f)
		}
	}
	place := map[*series.File]int{}
	for i, f := range all {
		place[f] = i
	}
	slices.SortStableFunc(all, func(a, b *series.File) int { return cmp.Compare(a.Low(), b.Low()) })
	for i := 0; i < len(all); {
		from, high := i, all[i].High()
		for i++; i < len(all) && all[i].Low() <= high; i++ {
			high = max(high, all[i].High())
		}
		slices.SortFunc(all[from:i], func(a, b *series.File) int { return cmp.Compare(place[a], place[b]) })
		var group []table.FileScanTask
		for _, f := range all[from:i] {
			group = append(group, f.Task)
		}
		groups = append(groups, group)
	}
	return groups, nil
}

// hasAny reports whether any row of a file goes. It reads the row groups that may
// have one, up to the first.
func (w *rewrite) hasAny(ctx context.Context, task table.FileScanTask, g *deletePredicate) (bool, error) {
	scan, err := datafile.NewScan(ctx, w.t, w.t.Schema(), g.columns, nil)
	if err != nil {
		return false, err
	}
	scan.May = g.may
	for b, err := range scan.Read(ctx, datafile.ToRead(w.t, []table.FileScanTask{task})) {
		if err != nil {
			return false, err
		}
		deleted, err := g.deletes(b)
		b.Release()
		if err != nil || slices.Contains(deleted, true) {
			return err == nil, err
		}
	}
	return false, nil
}

// without writes files anew, as one, without the rows that go.
func (w *rewrite) without(ctx context.Context, group []table.FileScanTask, g *deletePredicate) error {
	staying := sorted.Each(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		defer b.Release()
		rest, err := g.rest(b)
		if err == nil {
			w.done.Deleted += b.NumRows() - rest.NumRows()
		}
		return rest, err
	})
	for _, task := range group {
		w.old = append(w.old, task.File)
	}
	var files []iceberg.DataFile
	var err error
	if w.def.Order == nil {
		files, err = datafile.Write(ctx, w.writer(), w.def.Stored, staying(datafile.ReadRows(ctx, w.t, group)), 0)
	} else {
		from := w.series(w.t)
		var all []*series.File
		for _, task := range group {
			all = append(all, from.File(task))
		}
		files, err = from.Rewrite(ctx, all, w.series(w.writer()), sorted.All, staying)
	}
	w.files = append(w.files, files...)
	return err
}

// rest returns the rows of a batch that stay.
func (g *deletePredicate) rest(b arrow.RecordBatch) (arrow.RecordBatch, error) {
	stays, err := g.deletes(b)
	if err != nil {
		return nil, err
	}
	for i := range stays {
		stays[i] = !stays[i]
	}
	return take.Where(b, stays)
}
