package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
	"github.com/go-partd/partd/tables/internal/sorted"
	"github.com/go-partd/partd/tables/internal/take"
)

// Scan reads rows: first those in files, then those in the tail. It reads the table's state at the time of the
// call. The caller must release the reader, which stops the scan.
func (t *Table) Scan(ctx context.Context, o *ScanOptions) (array.RecordReader, error) {
	o = cmp.Or(o, new(ScanOptions))
	t = t.orZero()
	ctx, end := t.bucket().store().begin(ctx, "scan", t.bucket().name, t.name.Name)
	out, err := t.scan(ctx, o)
	if err != nil {
		err = t.error("scan", err)
		end(Outcome{Err: err})
		return nil, err
	}
	return t.bucket().store().observe(out, end), nil
}

func (t *Table) scan(ctx context.Context, o *ScanOptions) (_ array.RecordReader, err error) {
	unpin, err := t.bucket().store().commits.Pin()
	if err != nil {
		return nil, err
	}
	v, err := t.dedupedView(ctx)
	if err != nil {
		unpin()
		return nil, err
	}
	end := sync.OnceFunc(func() {
		take.Release(v.rows)
		unpin()
	})
	defer func() {
		if err != nil {
			end()
		}
	}()
	r := v.reader(ctx)
	r.recycle = o.Recycle
	if o.Limit > 0 {
		r.limit = o.Limit
	}
	if o.Filter != nil {
		r.filters = append(r.filters, o.Filter)
	}
	if !o.From.IsZero() || !o.To.IsZero() {
		between, err := series.TimeRange(v.def.Logical, cmp.Or(o.TimeColumn, v.def.Settings.Time), o.From, o.To)
		if err != nil {
			return nil, err
		}
		r.filters = append(r.filters, between)
	}
	switch {
	case o.ChunkRows < 0:
		return nil, fmt.Errorf("option ChunkRows is %d, and must not be negative", o.ChunkRows)
	case o.Limit < 0 || o.Last < 0:
		return nil, fmt.Errorf("options Limit %d and Last %d must not be negative", o.Limit, o.Last)
	case o.Limit > 0 && o.Last > 0:
		return nil, errors.New("options Limit and Last exclude each other")
	case o.Last > 0:
		if err := r.limitToLast(o.Last); err != nil {
			return nil, err
		}
	}
	if o.Part != 0 {
		if err := r.limitToPart(o); err != nil {
			return nil, err
		}
	}
	if err := r.plan(o.Columns); err != nil {
		return nil, err
	}
	batches := r.batches
	if o.ChunkRows > 0 {
		batches = sorted.Chunks(batches, o.ChunkRows)
	}
	out := arrowsafe.Reader(r.schema, batches, end)
	if o.Dictionaries {
		return AsDictionaries(out, v.def.Put)
	}
	return out, nil
}

// reader is a scan in progress.
type reader struct {
	*view
	ctx context.Context // Scan's context; RecordReader's methods have none

	schema  *arrow.Schema // of the result
	read    *arrow.Schema // of the columns that are read
	columns []int         // indices of read's columns in the table
	names   []string      // names of read's columns
	casts   bool          // read has types other than the stored ones
	out     []int         // indices of schema's columns in read; nil means they are the same
	filters []*filter.Expr
	filter  *filter.Expr // all filters combined, set by plan; nil means none
	limit   int64        // rows that may still be returned; -1 means all
	skip    int64        // rows to skip first
	recycle bool         // reuse the memory of released batches

	skipFiles  map[string]bool // paths of files to omit
	from, to   int             // range of files to read if the rows have no order; 0 for to means up to the last
	skipInFile int64           // rows to skip in the first of these files

	files        iter.Seq2[arrow.RecordBatch, error] // nil without files; those of an ordered table include the tail's rows
	readingFiles bool                                // files is being read
}

// reader returns a reader that has no plan yet.
func (v *view) reader(ctx context.Context, filters ...*filter.Expr) *reader {
	return &reader{view: v, ctx: ctx, limit: -1, filters: filters}
}

// chooseColumns selects the columns to read and those to return.
func (r *reader) chooseColumns(requested []string) error {
	needed := map[string]bool{}
	for _, name := range requested {
		if needed[name] {
			return schema.Errorf(name, "the column is requested twice")
		}
		needed[name] = true
	}
	for _, f := range r.filters {
		for _, name := range f.Columns() {
			needed[name] = true
		}
	}
	if r.series != nil {
		for _, name := range r.series.Names {
			needed[name] = true
		}
	}
	for name := range needed {
		if _, err := schema.ColumnIndex(r.def.Logical, name); err != nil {
			return err
		}
	}
	var fields []arrow.Field
	for i, f := range r.def.Logical.Fields() {
		if len(requested) == 0 || needed[f.Name] {
			r.columns, r.names = append(r.columns, i), append(r.names, f.Name)
			r.casts = r.casts || !arrow.TypeEqual(f.Type, r.def.Stored.Field(i).Type)
			fields = append(fields, f)
		}
	}
	metadata := r.def.Logical.Metadata()
	r.read = arrow.NewSchema(fields, &metadata)
	if len(requested) == 0 {
		r.schema = r.read
		return nil
	}
	fields = nil
	for _, name := range requested {
		index := r.read.FieldIndices(name)[0]
		r.out = append(r.out, index)
		fields = append(fields, r.read.Field(index))
	}
	r.schema = arrow.NewSchema(fields, &metadata)
	return nil
}

// plan selects the columns and the files to read.
func (r *reader) plan(columns []string) (err error) {
	if err := r.chooseColumns(columns); err != nil {
		return err
	}
	var where *filter.Condition
	if len(r.filters) > 0 {
		r.filter = filter.And(r.filters...)
		if where, err = r.filter.Bind(r.def.Logical); err != nil {
			return err
		}
	}
	enough := int64(-1) // number of rows that suffice; -1 if unknown
	if where == nil {
		enough = r.limit
	}
	if r.series != nil {
		r.files, err = r.series.Scan(r.ctx, r.names, where, r.rows, r.replaces, enough, r.recycle)
		return err
	}
	tasks, err := r.tasks(r.ctx)
	if err != nil || tasks == nil {
		return err
	}
	tasks = slices.DeleteFunc(slices.Clone(tasks)[r.from:cmp.Or(r.to, len(tasks))], func(t table.FileScanTask) bool {
		return r.skipFiles[t.File.FilePath()] || !datafile.MayHold(where, r.def.Columns, t.File)
	})
	scan, err := datafile.NewScan(r.ctx, r.t, r.def.Columns, r.names, where)
	if err != nil {
		return err
	}
	scan.Recycle = r.recycle
	scan.Workers, scan.Memory = runtime.GOMAXPROCS(0), r.source.b.s.opts.Memory/8
	if enough >= 0 {
		scan.Workers, scan.Rows = 1, min(scan.Rows, enough)
	}
	files := datafile.ToRead(r.t, tasks)
	if r.skipInFile > 0 {
		files[0].Skip = r.skipInFile
	}
	r.files = scan.Read(r.ctx, files)
	return nil
}

// convert converts a batch that was read to the caller's columns. Batches from files of tables without an order
// are already filtered.
func (r *reader) convert(b arrow.RecordBatch, filtered bool) (arrow.RecordBatch, error) {
	var err error
	if !r.casts {
		b = array.NewRecordBatch(r.read, b.Columns(), b.NumRows())
	} else if b, err = schema.Convert(b, r.read); err != nil {
		return nil, err
	}
	if r.filter != nil && !filtered {
		kept, err := r.filter.Filter(r.ctx, b)
		b.Release()
		if err != nil {
			return nil, err
		}
		b = kept
	}
	defer b.Release()
	first := min(r.skip, b.NumRows())
	r.skip -= first
	n := b.NumRows() - first
	if r.limit >= 0 {
		n = min(n, r.limit)
		r.limit -= n
	}
	columns := b.Columns()
	if r.out != nil {
		columns = make([]arrow.Array, len(r.out))
		for i, at := range r.out {
			columns[i] = b.Column(at)
		}
	}
	full := array.NewRecordBatch(r.schema, columns, b.NumRows())
	defer full.Release()
	return full.NewSlice(first, first+n), nil
}

// batches yields the batches for the caller.
func (r *reader) batches(yield func(arrow.RecordBatch, error) bool) {
	r.storedBatches(func(b arrow.RecordBatch, err error) bool {
		var out arrow.RecordBatch
		if err = cmp.Or(err, canceled.Err(r.ctx)); err == nil {
			out, err = r.convert(b, r.readingFiles && r.series == nil)
		}
		if b != nil {
			b.Release()
		}
		switch {
		case err != nil:
			yield(nil, r.source.error("scan", err))
			return false
		case out.NumRows() == 0:
			out.Release()
			return true
		}
		return yield(out, nil) && r.limit != 0
	})
}

// storedBatches yields the columns that are read, in the stored types.
func (r *reader) storedBatches(yield func(arrow.RecordBatch, error) bool) {
	if r.files != nil {
		r.readingFiles = true
		for b, err := range r.files {
			if !yield(b, err) {
				return
			}
		}
		r.readingFiles = false
	}
	if r.series != nil {
		return
	}
	for _, b := range r.rows {
		if !yield(r.selectColumns(b), nil) {
			return
		}
	}
}

// selectColumns selects the columns to read from a batch of the tail.
func (r *reader) selectColumns(b arrow.RecordBatch) arrow.RecordBatch {
	columns := make([]arrow.Array, len(r.columns))
	fields := make([]arrow.Field, len(r.columns))
	for i, at := range r.columns {
		columns[i], fields[i] = b.Column(at), r.def.Stored.Field(at)
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, b.NumRows())
}
