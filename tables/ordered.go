package tables

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// orderedFile is a file of a table with an order.
type orderedFile struct {
	task   table.FileScanTask
	bounds *sorted.Bounds
}

func (f *orderedFile) file() iceberg.DataFile { return f.task.File }

// files returns the files of a table, in the order in which their rows came.
func (o *order) files(ctx context.Context, t *table.Table, at ...table.ScanOption) (files []*orderedFile, err error) {
	tasks, err := datafile.Tasks(ctx, t, at...)
	for _, task := range tasks {
		files = append(files, &orderedFile{task, o.bounds(task.File)})
	}
	return files, err
}

// written makes an orderedFile of one that was just written.
func (o *order) written(files []iceberg.DataFile) (all []*orderedFile) {
	for _, f := range files {
		all = append(all, &orderedFile{table.FileScanTask{File: f}, o.bounds(f)})
	}
	return all
}

// projection is columns to read, in the order of the table's.
type projection struct {
	schema  *iceberg.Schema
	fields  []arrow.Field
	keys    []int    // of the order, in the fields
	columns []string // nil: all
	where   *filter.Condition
}

// project returns the projection to some columns, nil for all.
func (o *order) project(s *iceberg.Schema, columns []string) (*projection, error) {
	kept, err := keptSchema(s)
	if err != nil {
		return nil, err
	}
	p := &projection{schema: s, fields: kept.Fields(), columns: columns}
	if columns != nil {
		p.fields = columnsOf(kept, columns).Fields()
	}
	p.keys = placesOf(arrow.NewSchema(p.fields, nil), o.Names)
	return p, nil
}

const (
	// mostOpen is what a large file takes while it is read: a group of its rows.
	mostOpen  = 64 << 20
	leastOpen = 256 << 10 // and a small one
)

// source reads a file of a table.
func (s *Store) source(ctx context.Context, o *order, t *table.Table, f *orderedFile, p *projection) sorted.Source {
	perRow := max(1, 8*f.file().FileSizeBytes()/max(1, f.file().Count()))
	rows := func(yield func(arrow.RecordBatch, error) bool) {
		scan, err := datafile.NewScan(ctx, t, p.schema, p.columns, p.where)
		if err != nil {
			yield(nil, err)
			return
		}
		scan.Rows = min(max(8<<20/perRow, 1<<10), datafile.BatchRows)
		scan.Read(ctx, datafile.ToRead(t, []table.FileScanTask{f.task}))(yield)
	}
	src := sorted.Source{Batches: rows, Keys: p.keys, Bounds: f.bounds, Cost: max(min(8*f.file().FileSizeBytes(), mostOpen), leastOpen)}
	if !o.inOrder(f.file()) { // somebody else's, or older than the order
		src.Batches = sorted.Sort(ctx, sorted.All, s.sorting(rows, p.keys))
	}
	return src
}

// sorting is rows to be sorted in the Store's memory.
func (s *Store) sorting(rows sorted.Batches, keys []int) sorted.Input {
	return sorted.Input{Batches: rows, Keys: keys, Memory: s.opts.Memory / 8, Size: datafile.SizeOf}
}

// tailSource is rows of the tail, or of a put, in order.
func tailSource(batch arrow.RecordBatch, keys []int) sorted.Source {
	return sorted.Source{Keys: keys, Bounds: batchBounds(batch, keys[0]), Batches: sorted.Only(batch)}
}

// inPlace sorts a batch of rows in the kept schema, and leaves out what the rule
// does. It takes the batch over.
func (o *order) inPlace(ctx context.Context, batch arrow.RecordBatch, names []string) (arrow.RecordBatch, error) {
	keys := placesOf(batch.Schema(), names)
	one, err := sorted.Block([]arrow.RecordBatch{batch}, keys)
	batch.Release()
	if err != nil || o.Merging() == sorted.All {
		return one, err
	}
	defer one.Release()
	return collect(sorted.Merge(ctx, o.Merging(), 0, tailSource(one, keys)), one)
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
	names := v.order.Names
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
	if v.replaces = v.order.Rule == KeepLast; v.order.Rule != KeepFirst {
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
	names := o.Names
	p, err := o.project(t.Schema(), names)
	if err != nil {
		return nil, err
	}
	only, err := within(bounds, p.fields[p.keys[0]], p.fields[p.keys[0]].Type)
	if err != nil {
		return nil, err
	}
	if only != nil {
		if p.where, err = only.Bind(arrow.NewSchema(p.fields, nil)); err != nil {
			return nil, err
		}
	}
	var all []sorted.Source
	for _, f := range files {
		src := s.source(ctx, o, t, f, p)
		src.Hides = true
		all = append(all, src)
	}
	return all, nil
}

// merged yields the rows of an ordered table that a scan reads, those of the tail
// among them.
func (r *reader) merged(ctx context.Context, v *view, where *filter.Condition) (sorted.Batches, error) {
	p, err := v.order.project(v.schema, schema.Names(r.read))
	if err != nil {
		return nil, err
	}
	p.where = where
	var sources []sorted.Source
	if v.t.CurrentSnapshot() != nil {
		files, err := v.order.files(ctx, v.t, v.at()...)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if mayHold(where, v.schema, f.task) {
				sources = append(sources, r.s.source(ctx, v.order, v.t, f, p))
			}
		}
	}
	rule := sorted.All
	if v.replaces {
		rule = v.order.Merging()
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
