package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// Scan returns a reader of the table's rows at the time of the call. To end the scan, the caller must release the
// reader.
func (t *Table) Scan(ctx context.Context, o *ScanOptions) (array.RecordReader, error) {
	return t.reader().scan(ctx, o)
}

// scan implements Table.Scan.
func (t *tableReader) scan(ctx context.Context, o *ScanOptions) (array.RecordReader, error) {
	ctx, end := t.opts.begin(ctx, "scan", t.bucket, t.name)
	out, err := t.start(ctx, cmp.Or(o, new(ScanOptions)))
	wrapError(&err, "scan", t.bucket, t.name)
	return t.opts.observe(out, err, end)
}

// start begins a scan and returns its reader.
func (t *tableReader) start(ctx context.Context, o *ScanOptions) (_ array.RecordReader, err error) {
	v, release, err := t.pinnedView(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			release()
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
		return nil, fmt.Errorf("option ChunkRows is %d: it must not be negative", o.ChunkRows)
	case o.Limit < 0 || o.Last < 0:
		return nil, &ArgumentError{fmt.Errorf("option Limit is %d and Last is %d: they must not be negative", o.Limit, o.Last)}
	case o.Limit > 0 && o.Last > 0:
		return nil, &ArgumentError{errors.New("options Limit and Last cannot be combined")}
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
	out := batches.Reader(r.schema, batches.Chunks(r.batches, o.ChunkRows), release)
	if o.Dictionaries {
		return AsDictionaries(out, v.def.Put)
	}
	return out, nil
}

var errNotSmall = errors.New("the scan must read many rows")

// rowScan is a scan in progress.
type rowScan struct {
	*view
	ctx context.Context // Scan's context, stored because RecordReader's methods take no context

	schema    *arrow.Schema // columns of the result
	toRead    *arrow.Schema // columns to read, including columns that only filters use
	names     []string      // names of the columns in toRead
	needsCast bool          // whether a column's type in toRead differs from its type in files
	filters   []*filter.Expr
	filter    *filter.Expr // all filters combined, set by plan; nil means no filter
	limit     int64        // maximum number of further rows; -1 means no limit
	skip      int64        // number of rows to skip at the start
	recycle   bool         // whether to reuse the memory of released batches
	// If maxMatches is positive, plan returns errNotSmall if more than maxMatches rows in files can match, or if
	// reading them needs much memory. maxMatches is ignored if series is set.
	maxMatches int64

	skipFiles map[string]bool  // paths of files to omit
	deleted   datafile.Deleted // rows to omit; ignored if series is set
	// index range [firstFile, endFile) of the files to read, if the table has no order; 0 for endFile means no limit
	firstFile, endFile int
	skipInFile         int64 // number of rows to skip in the first file

	// rows in files, merged with the tail's rows if series is set; nil if there are no files
	files        iter.Seq2[arrow.RecordBatch, error]
	closeFiles   func() // closes the files of a scan that is limited by maxMatches
	readingFiles bool   // whether storedBatches is yielding rows of files
}

// reader returns a reader of v. The caller must call plan before batches.
func (v *view) reader(ctx context.Context, filters ...*filter.Expr) *rowScan {
	return &rowScan{view: v, ctx: ctx, limit: -1, filters: filters}
}

// chooseColumns sets the columns to read and the columns to return: those in requested, or all if requested is empty.
func (r *rowScan) chooseColumns(requested []string) error {
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
	var readFields []arrow.Field
	for i, f := range r.def.Logical.Fields() {
		if len(requested) == 0 || needed[f.Name] {
			r.names = append(r.names, f.Name)
			r.needsCast = r.needsCast || !arrow.TypeEqual(f.Type, r.def.Stored.Field(i).Type)
			readFields = append(readFields, f)
		}
	}
	metadata := r.def.Logical.Metadata()
	r.toRead = arrow.NewSchema(readFields, &metadata)
	if len(requested) == 0 {
		r.schema = r.toRead
		return nil
	}
	var fields []arrow.Field
	for _, name := range requested {
		fields = append(fields, r.toRead.Field(r.toRead.FieldIndices(name)[0]))
	}
	r.schema = arrow.NewSchema(fields, &metadata)
	return nil
}

// plan prepares r to read the given columns, or all columns if none are given.
func (r *rowScan) plan(columns []string) (err error) {
	if err := r.chooseColumns(columns); err != nil {
		return err
	}
	var where *filter.Condition
	if len(r.filters) > 0 {
		r.filter = filter.And(r.filters...)
		where, err = r.filter.Bind(r.def.Logical)
		if err != nil {
			return &ArgumentError{err}
		}
	}
	maxRows := int64(-1) // maximum number of rows to read; -1 if unknown because of a filter
	if where == nil {
		maxRows = r.limit
	}
	if r.series != nil {
		r.files, err = r.series.Scan(r.ctx, r.names, where, r.rows, r.tailReplaces, maxRows, r.recycle)
		return err
	}
	tasks, err := r.tasks(r.ctx)
	if err != nil || tasks == nil {
		return err
	}
	tasks = slices.DeleteFunc(slices.Clone(tasks)[r.firstFile:cmp.Or(r.endFile, len(tasks))], func(t table.FileScanTask) bool {
		return r.skipFiles[t.File.FilePath()] || !datafile.MayMatch(where, r.def.Columns, t.File)
	})
	scan, err := datafile.NewScan(r.ctx, r.t, r.def.Columns, r.names, where)
	if err != nil {
		return err
	}
	scan.Recycle = r.recycle
	scan.Workers, scan.Memory = runtime.GOMAXPROCS(0), r.source.opts.Memory/8
	if maxRows >= 0 {
		scan.Workers, scan.Rows = 1, min(scan.Rows, maxRows)
	}
	files := r.deleted.Hide(datafile.ToRead(r.t, tasks))
	if r.skipInFile > 0 {
		files[0].Skip = r.skipInFile
	}
	switch {
	case r.maxMatches == math.MaxInt64:
		small, err := scan.AreSmall(r.ctx, files)
		if err != nil || !small {
			return cmp.Or(err, errNotSmall)
		}
	case r.maxMatches > 0:
		r.files, r.closeFiles, err = scan.ReadFew(r.ctx, files, r.maxMatches)
		if r.files == nil {
			return cmp.Or(err, errNotSmall)
		}
		return nil
	}
	r.files = scan.Read(r.ctx, files)
	return nil
}

// convert converts a batch in stored types to the result's columns. If isFiltered is true, b contains only rows that
// match the filter. Otherwise, convert applies the filter.
func (r *rowScan) convert(b arrow.RecordBatch, isFiltered bool) (arrow.RecordBatch, error) {
	var err error
	if !r.needsCast {
		b = array.NewRecordBatch(r.toRead, b.Columns(), b.NumRows())
	} else {
		b, err = schema.Convert(b, r.toRead)
		if err != nil {
			return nil, err
		}
	}
	if r.filter != nil && !isFiltered {
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
	count := b.NumRows() - first
	if r.limit >= 0 {
		count = min(count, r.limit)
		r.limit -= count
	}
	full := schema.Project(b, r.schema)
	defer full.Release()
	return full.NewSlice(first, first+count), nil
}

func (r *rowScan) batches(yield func(arrow.RecordBatch, error) bool) {
	r.storedBatches(func(b arrow.RecordBatch, err error) bool {
		var out arrow.RecordBatch
		err = cmp.Or(err, canceled.Err(r.ctx))
		if err == nil {
			// if the table has no order, the scan of the files has already applied the filter
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

// storedBatches yields the rows in files and in the tail, with the columns to read in their stored types.
func (r *rowScan) storedBatches(yield func(arrow.RecordBatch, error) bool) {
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
	stored := r.def.Stored
	if len(r.names) < stored.NumFields() {
		stored = schema.Select(stored, r.names)
	}
	for _, b := range r.rows {
		if !yield(schema.Project(b, stored), nil) {
			return
		}
	}
}
