package tables

import (
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/sorted"
)

// orderedFile is a file of a table with an order.
type orderedFile struct {
	tasks  []table.FileScanTask // that read it
	bounds *sorted.Bounds
}

func (f *orderedFile) file() iceberg.DataFile { return f.tasks[0].File }

// files returns the files of a scan, in the order in which their rows came.
func (o *order) files(ctx context.Context, scan *table.Scan) ([]*orderedFile, error) {
	tasks, err := scan.PlanFiles(ctx)
	if err != nil {
		return nil, err
	}
	inOrder(tasks)
	return o.grouped(tasks), nil
}

// grouped returns the files of tasks.
func (o *order) grouped(tasks []table.FileScanTask) (files []*orderedFile) {
	known := map[string]*orderedFile{}
	for _, task := range tasks {
		f := known[task.File.FilePath()]
		if f == nil {
			f = &orderedFile{bounds: o.bounds(task.File)}
			known[task.File.FilePath()] = f
			files = append(files, f)
		}
		f.tasks = append(f.tasks, task)
	}
	return files
}

// written makes an orderedFile of one that was just written.
func (o *order) written(files []iceberg.DataFile) (all []*orderedFile) {
	for _, f := range files {
		all = append(all, &orderedFile{[]table.FileScanTask{{File: f, Length: f.FileSizeBytes()}}, o.bounds(f)})
	}
	return all
}

// projection is columns to read, in the order of the table's.
type projection struct {
	fields  []arrow.Field
	keys    []int // of the order, in the fields
	options []table.ScanOption
}

// project returns the projection to some columns, nil for all.
func (o *order) project(s *iceberg.Schema, columns []string) (*projection, error) {
	kept, err := keptSchema(s)
	if err != nil {
		return nil, err
	}
	p := &projection{fields: kept.Fields()}
	if columns != nil && !slices.Contains(columns, "*") { // which would mean all
		p.fields = slices.DeleteFunc(p.fields, func(f arrow.Field) bool { return !slices.Contains(columns, f.Name) })
		p.options = append(p.options, table.WithSelectedFields(columns...))
	}
	p.keys = placesOf(arrow.NewSchema(p.fields, nil), o.names(s))
	return p, nil
}

const (
	// mostOpen is what a large file takes while it is read: a group of its rows.
	mostOpen  = 64 << 20
	leastOpen = 256 << 10 // and a small one
)

// pieces returns what is read of a file at a time: one group of its rows, if few may
// be enough, for Iceberg's library begins to read all that it is asked for.
func (f *orderedFile) pieces(few bool) (all [][]table.FileScanTask) {
	offsets := f.file().SplitOffsets()
	if !few || len(f.tasks) > 1 || len(offsets) < 2 || !slices.IsSorted(offsets) {
		return [][]table.FileScanTask{f.tasks}
	}
	ends := append(slices.Clone(offsets[1:]), f.file().FileSizeBytes())
	for i, offset := range offsets {
		piece := f.tasks[0]
		piece.Start, piece.Length = offset, ends[i]-offset
		all = append(all, []table.FileScanTask{piece})
	}
	return all
}

// source reads a file of a table, of which few rows may be enough.
func (s *Store) source(ctx context.Context, o *order, t *table.Table, f *orderedFile, p *projection, few bool, options ...table.ScanOption) sorted.Source {
	perRow := max(1, 8*f.file().FileSizeBytes()/max(1, f.file().Count()))
	options = slices.Concat(p.options, options, []table.ScanOption{table.WithMaxConcurrency(1), table.WithOptions(iceberg.Properties{
		table.ParquetBatchSizeKey: batchSize(perRow),
	})})
	schema := arrow.NewSchema(p.fields, nil)
	rows := func(yield func(arrow.RecordBatch, error) bool) {
		for _, tasks := range f.pieces(few) {
			_, batches, err := t.Scan(options...).ReadTasks(ctx, tasks)
			if err != nil {
				yield(nil, err)
				return
			}
			for b, err := range batches {
				if err != nil {
					yield(nil, err)
					return
				}
				same := array.NewRecordBatch(schema, b.Columns(), b.NumRows())
				b.Release()
				if !yield(same, nil) {
					return
				}
			}
		}
	}
	src := sorted.Source{Batches: rows, Keys: p.keys, Bounds: f.bounds, Cost: max(min(8*f.file().FileSizeBytes(), mostOpen), leastOpen)}
	if !o.inOrder(f.file()) { // somebody else's, or older than the order
		src.Batches = sorted.Sort(ctx, sorted.All, s.sorting(rows, p.keys))
	}
	return src
}

// sorting is rows to be sorted in the Store's memory.
func (s *Store) sorting(rows sorted.Batches, keys []int) sorted.Input {
	return sorted.Input{Batches: rows, Keys: keys, Memory: s.opts.Memory / 8, Size: sizeOf}
}

// tailSource is rows of the tail, or of a put, in order.
func tailSource(batch arrow.RecordBatch, keys []int) sorted.Source {
	return sorted.Source{Keys: keys, Bounds: batchBounds(batch, keys[0]), Batches: func(yield func(arrow.RecordBatch, error) bool) {
		batch.Retain()
		yield(batch, nil)
	}}
}

// inPlace sorts a batch of rows in the kept schema, and leaves out what the rule
// does. It takes the batch over.
func (o *order) inPlace(ctx context.Context, batch arrow.RecordBatch, names []string) (arrow.RecordBatch, error) {
	keys := placesOf(batch.Schema(), names)
	one, err := sorted.Block([]arrow.RecordBatch{batch}, keys)
	batch.Release()
	if err != nil || o.merging() == sorted.All {
		return one, err
	}
	defer one.Release()
	return collect(sorted.Merge(ctx, o.merging(), 0, tailSource(one, keys)), one)
}

// collect makes one batch of rows that are few. Like has their schema.
func collect(rows sorted.Batches, like arrow.RecordBatch) (arrow.RecordBatch, error) {
	all := []arrow.RecordBatch{like.NewSlice(0, 0)}
	defer func() { release(all) }()
	for b, err := range rows {
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return sorted.Block(all, nil)
}

// settleTail makes of the tail's rows in a view one batch, in order, without those
// that the rule leaves out, as far as the tail and, by keep_first, the files say.
func (t *Table) settleTail(ctx context.Context, v *view) error {
	if v.order == nil || len(v.rows) == 0 {
		return nil
	}
	kept, err := keptSchema(v.schema)
	if err != nil {
		return err
	}
	one, err := conformAll(v.rows, kept)
	if err != nil {
		return err
	}
	names := v.order.names(v.schema)
	if one, err = v.order.inPlace(ctx, one, names); err != nil {
		return err
	}
	release(v.rows)
	v.rows = []arrow.RecordBatch{one}
	keys := placesOf(kept, names)
	of := batchBounds(one, keys[0])
	over, err := v.order.overlapping(ctx, v.t, []*sorted.Bounds{of})
	if err != nil || len(over) == 0 {
		return err
	}
	if v.replaces = v.order.rule == KeepLast; v.order.rule != KeepFirst {
		return nil
	}
	sources, err := t.b.s.hiding(ctx, v.order, v.t, over, of)
	if err != nil {
		return err
	}
	rows := sorted.Merge(ctx, sorted.First, t.b.s.opts.Memory/4, append(sources, tailSource(one, keys))...)
	left, err := collect(rows, one)
	if err == nil {
		one.Release()
		v.rows[0] = left
	}
	return err
}

// hiding returns the keys of files, as far as they are within bounds.
func (s *Store) hiding(ctx context.Context, o *order, t *table.Table, files []*orderedFile, bounds *sorted.Bounds) ([]sorted.Source, error) {
	names := o.names(t.Schema())
	p, err := o.project(t.Schema(), names)
	if err != nil {
		return nil, err
	}
	var options []table.ScanOption
	only, err := within(bounds, p.fields[p.keys[0]], p.fields[p.keys[0]].Type)
	if err != nil {
		return nil, err
	}
	if only != nil {
		cond, err := only.Iceberg(arrow.NewSchema(p.fields, nil))
		if err != nil {
			return nil, err
		}
		options = append(options, table.WithRowFilter(cond))
	}
	var all []sorted.Source
	for _, f := range files {
		src := s.source(ctx, o, t, f, p, false, options...)
		src.Hides = true
		all = append(all, src)
	}
	return all, nil
}

// merged yields the rows of an ordered table that a scan reads, those of the tail
// among them.
func (r *reader) merged(ctx context.Context, v *view, of iceberg.BooleanExpression, options []table.ScanOption) (sorted.Batches, error) {
	p, err := v.order.project(v.schema, names(r.read))
	if err != nil {
		return nil, err
	}
	var sources []sorted.Source
	if v.t.CurrentSnapshot() != nil {
		files, err := v.order.files(ctx, v.t.Scan(append(slices.Clip(options), table.WithRowFilter(of))...))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			sources = append(sources, r.s.source(ctx, v.order, v.t, f, p, r.left >= 0, options...))
		}
	}
	rule := sorted.All
	if v.replaces {
		rule = v.order.merging()
	}
	for _, b := range r.tail {
		if b.NumRows() == 0 {
			continue
		}
		fit, err := r.ofTail(b)
		if err != nil {
			return nil, err
		}
		defer fit.Release() // each opening of the source has its own
		src := tailSource(fit, p.keys)
		src.Batches = func(yield func(arrow.RecordBatch, error) bool) { yield(r.ofTail(b)) }
		sources = append(sources, src)
	}
	return sorted.Merge(ctx, rule, r.s.opts.Memory/4, sources...), nil
}
