package tables

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/arrowtypes"
)

// Scan reads rows: those in files first, then those in the tail. It is one state
// of the table, that of now. The caller releases the reader, which ends the scan.
func (t *Table) Scan(ctx context.Context, o *ScanOptions) (array.RecordReader, error) {
	r, err := t.scan(ctx, o)
	if err != nil {
		return nil, t.error("scan", err)
	}
	return r, nil
}

func (t *Table) scan(ctx context.Context, o *ScanOptions) (_ array.RecordReader, err error) {
	if o == nil {
		o = &ScanOptions{}
	}
	p, err := t.b.s.pin()
	if err != nil {
		return nil, err
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
	v, err := t.view(ctx, true)
	if err != nil {
		return nil, err
	}
	r.tail = v.rows
	if o.Limit > 0 {
		r.left = o.Limit
	}
	if o.Filter != nil {
		r.filters = append(r.filters, o.Filter)
	}
	between, err := timeRange(v.returned, o)
	if err != nil {
		return nil, err
	}
	if between != nil {
		r.filters = append(r.filters, between)
	}
	if err := r.choose(v, o.Columns); err != nil {
		return nil, err
	}
	if err := r.plan(ctx, v); err != nil {
		return nil, err
	}
	return arrowsafe.Reader(r.schema, r.batches, end), nil
}

// timeRange returns the condition for rows between From and To; nil if all are.
func timeRange(s *arrow.Schema, o *ScanOptions) (*filter.Expr, error) {
	if o.From.IsZero() && o.To.IsZero() {
		return nil, nil
	}
	column := ""
	for _, f := range s.Fields() {
		isTime := slices.Contains([]arrow.Type{arrow.TIMESTAMP, arrow.DATE32, arrow.DATE64}, f.Type.ID())
		if isTime && (o.TimeColumn == "" || o.TimeColumn == f.Name) {
			column = f.Name
			break
		}
	}
	if column == "" {
		return nil, &SchemaError{o.TimeColumn, errors.New("the table has no timestamp or date column of this name for the time range")}
	}
	quoted := `"` + strings.ReplaceAll(column, `"`, `""`) + `"`
	var parts []string
	if !o.From.IsZero() {
		parts = append(parts, quoted+" >= '"+timeText(o.From)+"'")
	}
	if !o.To.IsZero() {
		parts = append(parts, quoted+" < '"+timeText(o.To)+"'")
	}
	return filter.Parse(strings.Join(parts, " and "))
}

func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999999999") }

// choose finds the columns to read, and those to hand on.
func (r *reader) choose(v *view, wanted []string) error {
	need := map[string]bool{}
	for _, name := range wanted {
		need[name] = true
	}
	for _, f := range r.filters {
		for _, name := range f.Columns() {
			need[name] = true
		}
	}
	for name := range need {
		if !v.returned.HasField(name) {
			return &SchemaError{name, fmt.Errorf("the table has no such column, only %q", names(v.returned))}
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

// plan finds the files to read.
func (r *reader) plan(ctx context.Context, v *view) error {
	var err error
	if r.kept, err = keptSchema(v.schema); err != nil {
		return err
	}
	opts := []table.ScanOption{table.WithRowFilter(iceberg.AlwaysTrue{})}
	if selected := names(r.read); !slices.Contains(selected, "*") {
		opts = append(opts, table.WithSelectedFields(selected...))
	}
	if v.snapshot != nil {
		opts = append(opts, table.WithSnapshotID(v.snapshot.SnapshotID))
	}
	all := iceberg.BooleanExpression(iceberg.AlwaysTrue{})
	for _, f := range r.filters {
		cond, err := f.Iceberg(v.returned)
		if err != nil {
			return err
		}
		all = iceberg.NewAnd(all, cond)
	}
	if len(r.filters) > 0 {
		opts = append(opts, table.WithRowFilter(all))
	} else if r.left >= 0 {
		opts = append(opts, table.WithLimit(r.left))
	}
	if v.t.CurrentSnapshot() == nil {
		return nil
	}
	tasks, err := v.t.Scan(opts...).PlanFiles(ctx)
	if err != nil {
		return err
	}
	inOrder(tasks)
	// Files that are read side by side are held decoded while they wait.
	workers := runtime.GOMAXPROCS(0)
	for _, task := range tasks {
		if task.File.FileSizeBytes()*8 > r.s.opts.Memory/4 {
			workers = 1
		}
	}
	_, r.files, err = v.t.Scan(append(opts, table.WithMaxConcurrency(workers))...).ReadTasks(ctx, tasks)
	return err
}

// batch makes of a batch that was read what the caller wants of it.
func (r *reader) batch(ctx context.Context, b arrow.RecordBatch) (arrow.RecordBatch, error) {
	b, err := arrowtypes.Convert(b, r.read)
	if err != nil {
		return nil, err
	}
	for _, f := range r.filters {
		kept, err := f.Filter(ctx, b)
		b.Release()
		if err != nil {
			return nil, err
		}
		b = kept
	}
	defer b.Release()
	n := b.NumRows()
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
	return whole.NewSlice(0, n), nil
}
