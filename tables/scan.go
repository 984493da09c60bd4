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

// Scan reads rows: those in files first, then those in the tail. It is one state
// of the table, that of now. The caller releases the reader, which ends the scan.
func (t *Table) Scan(ctx context.Context, o *ScanOptions) (array.RecordReader, error) {
	o = cmp.Or(o, new(ScanOptions))
	t = t.made()
	ctx, end := t.bucket().store().begin(ctx, "scan", t.bucket().name, t.name.Name)
	out, err := t.scan(ctx, o)
	if err != nil {
		err = t.error("scan", err)
		end(Outcome{Err: err})
		return nil, err
	}
	return t.bucket().store().observed(out, end), nil
}

func (t *Table) scan(ctx context.Context, o *ScanOptions) (_ array.RecordReader, err error) {
	unpin, err := t.bucket().store().commits.Pin()
	if err != nil {
		return nil, err
	}
	v, err := t.deduped(ctx)
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
		r.left = o.Limit
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
		if err := r.last(o.Last); err != nil {
			return nil, err
		}
	}
	if o.Part != 0 {
		if err := r.part(o); err != nil {
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
	ctx context.Context // of Scan; RecordReader's methods have none

	schema  *arrow.Schema // of what it hands on
	read    *arrow.Schema // of the columns that are read
	columns []int         // of read, in the table
	names   []string      // of read
	casts   bool          // read has other types than those that are stored
	out     []int         // of schema, in read; nil: they are the same
	filters []*filter.Expr
	filter  *filter.Expr // all of them, once it is planned; nil: none
	left    int64        // rows that may still be handed on; -1: all
	skip    int64        // rows not to be handed on before
	recycle bool         // the memory of batches that were released is used again

	but      map[string]bool // paths of files that are left out
	from, to int             // where the files that are read begin and end, if the rows have no order; to 0: with the last
	skipping int64           // rows of the first of them that are not read

	files   iter.Seq2[arrow.RecordBatch, error] // nil: there are none; those of an ordered table have the tail's rows
	inFiles bool                                // while they are read
}

// reader returns one that is not planned yet.
func (v *view) reader(ctx context.Context, filters ...*filter.Expr) *reader {
	return &reader{view: v, ctx: ctx, left: -1, filters: filters}
}

// choose finds the columns to read, and those to hand on.
func (r *reader) choose(wanted []string) error {
	need := map[string]bool{}
	for _, name := range wanted {
		if need[name] {
			return schema.Errorf(name, "the column is named twice among those wanted")
		}
		need[name] = true
	}
	for _, f := range r.filters {
		for _, name := range f.Columns() {
			need[name] = true
		}
	}
	if r.series != nil {
		for _, name := range r.series.Names {
			need[name] = true
		}
	}
	for name := range need {
		if _, err := schema.Place(r.def.Logical, name); err != nil {
			return err
		}
	}
	var fields []arrow.Field
	for i, f := range r.def.Logical.Fields() {
		if len(wanted) == 0 || need[f.Name] {
			r.columns, r.names = append(r.columns, i), append(r.names, f.Name)
			r.casts = r.casts || !arrow.TypeEqual(f.Type, r.def.Stored.Field(i).Type)
			fields = append(fields, f)
		}
	}
	metadata := r.def.Logical.Metadata()
	r.read = arrow.NewSchema(fields, &metadata)
	if len(wanted) == 0 {
		r.schema = r.read
		return nil
	}
	fields = nil
	for _, name := range wanted {
		at := r.read.FieldIndices(name)[0]
		r.out = append(r.out, at)
		fields = append(fields, r.read.Field(at))
	}
	r.schema = arrow.NewSchema(fields, &metadata)
	return nil
}

// plan finds the columns and the files to read.
func (r *reader) plan(columns []string) (err error) {
	if err := r.choose(columns); err != nil {
		return err
	}
	var where *filter.Condition
	if len(r.filters) > 0 {
		r.filter = filter.And(r.filters...)
		if where, err = r.filter.Bind(r.def.Logical); err != nil {
			return err
		}
	}
	few := int64(-1) // rows that may be enough
	if where == nil {
		few = r.left
	}
	if r.series != nil {
		r.files, err = r.series.Scan(r.ctx, r.names, where, r.rows, r.replaces, few, r.recycle)
		return err
	}
	tasks, err := r.tasks(r.ctx)
	if err != nil || tasks == nil {
		return err
	}
	tasks = slices.DeleteFunc(slices.Clone(tasks)[r.from:cmp.Or(r.to, len(tasks))], func(t table.FileScanTask) bool {
		return r.but[t.File.FilePath()] || !datafile.MayHold(where, r.def.Columns, t.File)
	})
	scan, err := datafile.NewScan(r.ctx, r.t, r.def.Columns, r.names, where)
	if err != nil {
		return err
	}
	scan.Recycle = r.recycle
	scan.Workers, scan.Memory = runtime.GOMAXPROCS(0), r.of.b.s.opts.Memory/8
	if few >= 0 {
		scan.Workers, scan.Rows = 1, min(scan.Rows, few)
	}
	files := datafile.ToRead(r.t, tasks)
	if r.skipping > 0 {
		files[0].Skip = r.skipping
	}
	r.files = scan.Read(r.ctx, files)
	return nil
}

// batch makes of a batch that was read what the caller wants of it. Files of tables
// without an order have been filtered.
func (r *reader) batch(b arrow.RecordBatch, filtered bool) (arrow.RecordBatch, error) {
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
	if r.left >= 0 {
		n = min(n, r.left)
		r.left -= n
	}
	columns := b.Columns()
	if r.out != nil {
		columns = make([]arrow.Array, len(r.out))
		for i, at := range r.out {
			columns[i] = b.Column(at)
		}
	}
	whole := array.NewRecordBatch(r.schema, columns, b.NumRows())
	defer whole.Release()
	return whole.NewSlice(first, first+n), nil
}

// batches yields what the caller wants.
func (r *reader) batches(yield func(arrow.RecordBatch, error) bool) {
	r.raw(func(b arrow.RecordBatch, err error) bool {
		var out arrow.RecordBatch
		if err = cmp.Or(err, canceled.Err(r.ctx)); err == nil {
			out, err = r.batch(b, r.inFiles && r.series == nil)
		}
		if b != nil {
			b.Release()
		}
		switch {
		case err != nil:
			yield(nil, r.of.error("scan", err))
			return false
		case out.NumRows() == 0:
			out.Release()
			return true
		}
		return yield(out, nil) && r.left != 0
	})
}

// raw yields the columns that are read, as they are stored.
func (r *reader) raw(yield func(arrow.RecordBatch, error) bool) {
	if r.files != nil {
		r.inFiles = true
		for b, err := range r.files {
			if !yield(b, err) {
				return
			}
		}
		r.inFiles = false
	}
	if r.series != nil {
		return
	}
	for _, b := range r.rows {
		if !yield(r.ofTail(b), nil) {
			return
		}
	}
}

// ofTail returns the columns that are read of a batch of the tail.
func (r *reader) ofTail(b arrow.RecordBatch) arrow.RecordBatch {
	columns := make([]arrow.Array, len(r.columns))
	fields := make([]arrow.Field, len(r.columns))
	for i, at := range r.columns {
		columns[i], fields[i] = b.Column(at), r.def.Stored.Field(at)
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, b.NumRows())
}
