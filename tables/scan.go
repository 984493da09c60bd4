package tables

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
)

// Scan reads rows: those in files first, then those in the tail. It is one state
// of the table, that of now. The caller releases the reader, which ends the scan.
func (t *Table) Scan(ctx context.Context, o *ScanOptions) (array.RecordReader, error) {
	r, put, err := t.scan(ctx, o)
	if err == nil && o != nil && o.Dictionaries {
		r, err = AsDictionaries(r, put)
	}
	if err != nil {
		return nil, t.error("scan", err)
	}
	return r, nil
}

// scan returns the columns in the types in which they were put, too.
func (t *Table) scan(ctx context.Context, o *ScanOptions) (_ array.RecordReader, put *arrow.Schema, err error) {
	if o == nil {
		o = &ScanOptions{}
	}
	p, err := t.b.s.pin()
	if err != nil {
		return nil, nil, err
	}
	r := &reader{s: t.b.s, table: t, ctx: ctx, left: -1}
	end := func() {
		release(r.tail)
		t.b.s.unpin(p)
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	v, err := t.settled(ctx)
	if err != nil {
		return nil, nil, err
	}
	r.tail = v.rows
	if o.Limit > 0 {
		r.left = o.Limit
	}
	if o.Filter != nil {
		r.filters = append(r.filters, o.Filter)
	}
	between, err := series.TimeRange(v.returned, o.TimeColumn, o.From, o.To)
	if err != nil {
		return nil, nil, err
	}
	if between != nil {
		r.filters = append(r.filters, between)
	}
	switch {
	case o.ChunkRows < 0:
		return nil, nil, fmt.Errorf("option ChunkRows is %d, and must not be negative", o.ChunkRows)
	case o.Limit < 0 || o.Last < 0:
		return nil, nil, fmt.Errorf("options Limit %d and Last %d must not be negative", o.Limit, o.Last)
	case o.Limit > 0 && o.Last > 0:
		return nil, nil, errors.New("options Limit and Last exclude each other")
	case o.Last > 0:
		if err := r.last(ctx, v, o); err != nil {
			return nil, nil, err
		}
	}
	if o.Part != 0 {
		if err := r.part(ctx, v, o); err != nil {
			return nil, nil, err
		}
	}
	if err := r.choose(v, o.Columns); err != nil {
		return nil, nil, err
	}
	if err := r.plan(ctx, v); err != nil {
		return nil, nil, err
	}
	return arrowsafe.Reader(r.schema, arrowsafe.Chunks(r.batches, o.ChunkRows), end), v.def.Put, nil
}

// choose finds the columns to read, and those to hand on.
func (r *reader) choose(v *view, wanted []string) error {
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
	if v.series != nil {
		for _, name := range v.series.Names {
			need[name] = true
		}
	}
	for name := range need {
		if !v.returned.HasField(name) {
			return schema.Errorf(name, "the table has no such column, only %q", schema.Names(v.returned))
		}
	}
	var fields []arrow.Field
	for i, f := range v.returned.Fields() {
		if len(wanted) == 0 || need[f.Name] {
			r.columns = append(r.columns, i)
			fields = append(fields, f)
		}
	}
	metadata := v.returned.Metadata()
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

// at chooses the version of a view.
func (v *view) at() []table.ScanOption {
	if v.snapshot == nil {
		return nil
	}
	return []table.ScanOption{table.WithSnapshotID(v.snapshot.SnapshotID)}
}

// plan finds the files to read.
func (r *reader) plan(ctx context.Context, v *view) (err error) {
	r.kept = v.def.Stored
	var where *filter.Condition
	if len(r.filters) > 0 {
		r.filter = filter.And(r.filters...)
		if where, err = r.filter.Bind(v.returned); err != nil {
			return err
		}
	}
	if v.series != nil {
		r.merges = true
		r.files, err = v.series.Scan(ctx, schema.Names(r.read), where, r.tail, v.replaces)
		return err
	}
	if v.t.CurrentSnapshot() == nil {
		return nil
	}
	tasks, err := datafile.Tasks(ctx, v.t, v.at()...)
	if err != nil {
		return err
	}
	tasks = slices.DeleteFunc(tasks, func(t table.FileScanTask) bool {
		return r.but[t.File.FilePath()] || r.only != "" && t.File.FilePath() != r.only || !datafile.MayHold(where, v.schema, t.File)
	})
	scan, err := datafile.NewScan(ctx, v.t, v.schema, schema.Names(r.read), where)
	if err != nil {
		return err
	}
	// Groups that are read side by side are held decoded while they wait.
	scan.Workers = runtime.GOMAXPROCS(0)
	for _, task := range tasks {
		if task.File.FileSizeBytes()*8 > r.s.opts.Memory/4 {
			scan.Workers = 1
		}
	}
	if r.left >= 0 && where == nil { // few may be enough
		scan.Workers, scan.Rows = 1, min(scan.Rows, r.left)
	}
	r.files = scan.Read(ctx, datafile.ToRead(v.t, tasks))
	return nil
}

// batch makes of a batch that was read what the caller wants of it. Files of tables
// without an order have been filtered.
func (r *reader) batch(ctx context.Context, b arrow.RecordBatch, filtered bool) (arrow.RecordBatch, error) {
	b, err := schema.Convert(b, r.read)
	if err != nil {
		return nil, err
	}
	if r.filter != nil && !filtered {
		kept, err := r.filter.Filter(ctx, b)
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
