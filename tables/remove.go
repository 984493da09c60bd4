package tables

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/arrowtypes"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// going says which rows of a table go.
type going struct {
	may     iceberg.BooleanExpression // lets through all files with rows that go, and perhaps more
	groups  iceberg.BooleanExpression // the same of row groups
	stay    iceberg.BooleanExpression // the same of files with rows that stay; nil: only the rows can tell
	columns []string                  // that goes looks at
	// goes returns for each row whether it goes; null is no. The batch has these
	// columns at least, in the types that are kept.
	goes func(context.Context, arrow.RecordBatch) (*array.Boolean, error)
}

// where is the rows for which a condition is true.
func (w *rewrite) where(cond *filter.Expr) (*going, error) {
	g := &going{columns: cond.Columns()}
	for _, name := range g.columns {
		if !w.returned.HasField(name) {
			return nil, &SchemaError{name, fmt.Errorf("the table has no such column, only %q", names(w.returned))}
		}
	}
	var err error
	if g.may, err = cond.Iceberg(w.returned); err != nil {
		return nil, err
	}
	if g.groups, err = cond.IcebergGroups(w.returned); err != nil {
		return nil, err
	}
	if g.stay, err = cond.IcebergRest(w.returned); err != nil {
		return nil, err
	}
	looked := columnsOf(w.returned, g.columns)
	g.goes = func(ctx context.Context, b arrow.RecordBatch) (*array.Boolean, error) {
		columns := make([]arrow.Array, looked.NumFields())
		for i, f := range looked.Fields() {
			columns[i] = b.Column(b.Schema().FieldIndices(f.Name)[0])
		}
		part := array.NewRecordBatch(columnsOf(w.kept, g.columns), columns, b.NumRows())
		defer part.Release()
		returned, err := arrowtypes.Convert(part, looked)
		if err != nil {
			return nil, err
		}
		defer returned.Release()
		return cond.Mask(ctx, returned)
	}
	return g, nil
}

// columnsOf returns the part of a schema with the columns named, in its order.
func columnsOf(s *arrow.Schema, names []string) *arrow.Schema {
	var fields []arrow.Field
	for _, f := range s.Fields() {
		if slices.Contains(names, f.Name) {
			fields = append(fields, f)
		}
	}
	return arrow.NewSchema(fields, nil)
}

// remove plans that rows go. Files without any stay as they are, and those whose
// bounds say that all of their rows go are not read. The others are read one at a
// time, a batch at a time.
func (w *rewrite) remove(ctx context.Context, g *going) error {
	if w.t.CurrentSnapshot() == nil {
		return nil
	}
	tasks, err := fileTasks(ctx, w.t, g.may)
	if err != nil {
		return err
	}
	stay := map[string]bool{}
	if g.stay != nil {
		kept, err := fileTasks(ctx, w.t, g.stay)
		if err != nil {
			return err
		}
		for _, task := range kept {
			stay[task.File.FilePath()] = true
		}
	}
	dropped := map[string]bool{}
	var touched []table.FileScanTask
	for _, task := range tasks {
		deletes := len(task.DeleteFiles) + len(task.EqualityDeleteFiles) + len(task.DeletionVectorFiles)
		if g.stay != nil && !stay[task.File.FilePath()] && deletes == 0 {
			w.step.old = append(w.step.old, task.File)
			w.done.Deleted += task.File.Count()
			dropped[task.File.FilePath()] = true
			continue
		}
		some, err := w.hasAny(ctx, task, g)
		if err != nil {
			return err
		}
		if some {
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
	if w.order == nil || w.order.merging() != sorted.All || w.order.rule == RefuseDuplicate {
		for _, task := range touched {
			groups = append(groups, []table.FileScanTask{task})
		}
		return groups, nil
	}
	chosen := map[string]bool{}
	for _, task := range touched {
		chosen[task.File.FilePath()] = true
	}
	files, err := w.order.files(ctx, w.t.Scan())
	if err != nil {
		return nil, err
	}
	var all []*orderedFile
	for _, f := range files { // in the order in which they came
		path := f.file().FilePath()
		if !dropped[path] && (chosen[path] || len(touching(all, []*orderedFile{f})) > 0) {
			all = append(all, f)
		}
	}
	place := map[*orderedFile]int{}
	for i, f := range all {
		place[f] = i
	}
	slices.SortStableFunc(all, func(a, b *orderedFile) int { return cmp.Compare(a.low(), b.low()) })
	for i := 0; i < len(all); {
		from, high := i, all[i].high()
		for i++; i < len(all) && all[i].low() <= high; i++ {
			high = max(high, all[i].high())
		}
		slices.SortFunc(all[from:i], func(a, b *orderedFile) int { return cmp.Compare(place[a], place[b]) })
		var group []table.FileScanTask
		for _, f := range all[from:i] {
			group = append(group, wholeFile(f.tasks[0]))
		}
		groups = append(groups, group)
	}
	return groups, nil
}

// fileTasks returns the whole files of a table that may have rows of a condition,
// or all for nil, in the order of their rows.
func fileTasks(ctx context.Context, t *table.Table, cond iceberg.BooleanExpression) ([]table.FileScanTask, error) {
	if cond == nil {
		cond = iceberg.AlwaysTrue{}
	}
	tasks, err := t.Scan(table.WithRowFilter(cond)).PlanFiles(ctx)
	if err != nil {
		return nil, err
	}
	inOrder(tasks)
	tasks = slices.CompactFunc(tasks, func(a, b table.FileScanTask) bool { return a.File.FilePath() == b.File.FilePath() })
	for i := range tasks {
		tasks[i] = wholeFile(tasks[i])
	}
	return tasks, nil
}

func wholeFile(task table.FileScanTask) table.FileScanTask {
	task.Start, task.Length, task.Residual = 0, task.File.FileSizeBytes(), nil
	return task
}

// hasAny reports whether any row of a file goes. It reads the row groups that may
// have one, up to the first.
func (w *rewrite) hasAny(ctx context.Context, task table.FileScanTask, g *going) (bool, error) {
	opts := []table.ScanOption{table.WithRowFilter(g.groups), table.WithMaxConcurrency(1)}
	kept := w.kept
	if !slices.Contains(g.columns, "*") {
		opts = append(opts, table.WithSelectedFields(g.columns...))
		kept = columnsOf(kept, g.columns)
	}
	_, batches, err := w.t.Scan(opts...).ReadTasks(ctx, []table.FileScanTask{task})
	if err != nil {
		return false, err
	}
	for b, err := range batches {
		if err != nil {
			return false, err
		}
		fit, err := arrowtypes.Convert(b, kept)
		b.Release()
		if err != nil {
			return false, err
		}
		mask, err := g.goes(ctx, fit)
		fit.Release()
		if err != nil {
			return false, err
		}
		some := slices.Contains(truths(mask), true)
		mask.Release()
		if some {
			return true, nil
		}
	}
	return false, nil
}

// truths returns a mask with its nulls as false.
func truths(mask *array.Boolean) []bool {
	all := make([]bool, mask.Len())
	for i := range all {
		all[i] = mask.IsValid(i) && mask.Value(i)
	}
	return all
}

// without writes files anew, as one, without the rows that go.
func (w *rewrite) without(ctx context.Context, group []table.FileScanTask, g *going) error {
	staying := func(rows sorted.Batches) sorted.Batches {
		return func(yield func(arrow.RecordBatch, error) bool) {
			for b, err := range rows {
				var rest arrow.RecordBatch
				if err == nil {
					rest, err = w.rest(ctx, b, g)
					b.Release()
				}
				if !yield(rest, err) || err != nil {
					return
				}
			}
		}
	}
	for _, task := range group {
		w.step.old = append(w.step.old, task.File)
	}
	var files []iceberg.DataFile
	var err error
	if w.order == nil {
		files, err = recordFiles(ctx, w.writer(), w.kept, staying(w.read(ctx, group)))
	} else {
		all, err := w.order.project(w.t.Schema(), nil)
		if err != nil {
			return err
		}
		var sources []sorted.Source
		for _, task := range group {
			src := w.e.s.source(ctx, w.order, w.t, &orderedFile{[]table.FileScanTask{task}, w.order.bounds(task.File)}, all, false)
			src.Batches = staying(src.Batches)
			sources = append(sources, src)
		}
		files, err = w.order.write(ctx, w.writer(), w.kept, sorted.Merge(ctx, sorted.All, w.e.s.opts.Memory/4, sources...))
		if err != nil {
			return err
		}
	}
	w.step.files = append(w.step.files, files...)
	return err
}

// read reads files in the types that are kept.
func (w *rewrite) read(ctx context.Context, group []table.FileScanTask) sorted.Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		_, batches, err := w.t.Scan(table.WithMaxConcurrency(1)).ReadTasks(ctx, group)
		if err != nil {
			yield(nil, err)
			return
		}
		for b, err := range batches {
			var fit arrow.RecordBatch
			if err == nil {
				fit, err = arrowtypes.Convert(b, w.kept)
				b.Release()
			}
			if !yield(fit, err) || err != nil {
				return
			}
		}
	}
}

// rest returns the rows of a batch that stay, and counts those that go.
func (w *rewrite) rest(ctx context.Context, b arrow.RecordBatch, g *going) (arrow.RecordBatch, error) {
	rest, err := g.rest(ctx, b)
	if err == nil {
		w.done.Deleted += b.NumRows() - rest.NumRows()
	}
	return rest, err
}

// rest returns the rows of a batch that stay.
func (g *going) rest(ctx context.Context, b arrow.RecordBatch) (arrow.RecordBatch, error) {
	mask, err := g.goes(ctx, b)
	if err != nil {
		return nil, err
	}
	defer mask.Release()
	stays := array.NewBooleanBuilder(memory.DefaultAllocator)
	defer stays.Release()
	for _, goes := range truths(mask) {
		stays.Append(!goes)
	}
	chosen := stays.NewBooleanArray()
	defer chosen.Release()
	return filter.Select(ctx, b, chosen)
}

// writer is the table that files are written for.
func (w *rewrite) writer() *table.Table {
	return w.e.s.cat.Staged(w.e.Namespace, w.e.Name, w.t.Metadata(), w.t.MetadataLocation(), w.io)
}
