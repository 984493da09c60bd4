package transform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sqlquote"
	"github.com/go-partd/partd/tables/internal/take"
)

// Resample puts the rows of a SQL statement, or a row of aggregates for each bin of time,
// like resample in pandas.
func Resample(ctx context.Context, s *tables.Store, o *ResampleOptions) (done Result, err error) {
	o = cmp.Or(o, new(ResampleOptions))
	defer func() { err = opError("resample", o.Source, err) }()
	q, err := newResampling(ctx, s, o)
	if err != nil {
		return done, err
	}
	for _, inOrder := range []bool{true, false} {
		r, err := q.rows(ctx, s, o, inOrder)
		if err != nil {
			return done, err
		}
		done.TargetRows, err = put(ctx, s, r, o.Target, o.Mode, nil)
		r.Release()
		if done.SourceRows = q.sourceRows; !errors.Is(err, errBySQL) {
			return done, err
		}
	}
	return done, errBySQL
}

// Resampled reads what Resample would put: Target and Mode are of no concern. The caller
// releases the reader, which may end with an error.
func Resampled(ctx context.Context, s *tables.Store, o *ResampleOptions) (_ array.RecordReader, err error) {
	o = cmp.Or(o, new(ResampleOptions))
	defer func() { err = opError("resample", o.Source, err) }()
	q, err := newResampling(ctx, s, o)
	if err != nil {
		return nil, err
	}
	r, err := q.rows(ctx, s, o, true)
	if err != nil {
		return nil, err
	}
	// Where any row may show that SQL has to do it, no bins are handed on before the last row.
	var held []arrow.RecordBatch
	bytes, more := int64(0), r.Next()
	for ; more; more = r.Next() {
		r.RecordBatch().Retain()
		held = append(held, r.RecordBatch())
		if bytes += util.TotalRecordSize(r.RecordBatch()); !q.late || bytes > mostHeld {
			break
		}
	}
	if more && q.late || errors.Is(r.Err(), errBySQL) {
		take.Release(held)
		r.Release()
		held = nil
		if r, err = q.rows(ctx, s, o, false); err != nil {
			return nil, err
		}
	}
	return arrowsafe.Reader(r.Schema(), func(yield func(arrow.RecordBatch, error) bool) {
		for len(held) > 0 {
			b := held[0]
			held = held[1:]
			if !yield(b, nil) {
				return
			}
		}
		for b, err := range arrowsafe.Batches(r) {
			if errors.Is(err, errBySQL) { // a time that is seen late, which SQL does not hold either
				err = q.bins.beyond()
			}
			if !yield(b, opError("resample", o.Source, err)) {
				return
			}
		}
	}, func() {
		take.Release(held)
		r.Release()
	}), nil
}

// mostHeld is how many bytes of bins Resampled holds until it has seen all rows.
const mostHeld = 16 << 20

// rows returns the result, with dictionaries for the columns that the source has as such.
// What is resampled in order may end with errBySQL.
func (q *resampling) rows(ctx context.Context, s *tables.Store, o *ResampleOptions, inOrder bool) (r array.RecordReader, err error) {
	switch {
	case o.SQL != "":
		return s.Query(ctx, o.SQL, &tables.QueryOptions{Bucket: o.Source.Bucket})
	case q.filler() != "":
		r, err = q.filled(ctx, s, o.Source)
	case inOrder:
		r, err = q.inOrder(ctx, s, o.Source)
	}
	for n := 0; r == nil && err == nil; n++ {
		if n == mostAttempts {
			return nil, fmt.Errorf("%w: rows with times before all others are put again and again", tables.ErrConflict)
		}
		r, err = q.query(ctx, s, o.Source)
	}
	if err != nil {
		return nil, err
	}
	return tables.AsDictionaries(r, q.asPut)
}

// mostAttempts is how often rows may be put that change what a statement was made
// for.
const mostAttempts = 10

// resampling is a Resample by a rule.
type resampling struct {
	time    string
	index   bool // is noted as pandas' index
	columns []arrow.Field
	all     []aggregate
	schema  *arrow.Schema // of the result, but for the dictionaries
	asPut   *arrow.Schema // of the result's dictionaries
	nanos   bool          // a column's times have nanoseconds and a zone

	bins        *bins
	known       bool  // whether there is any time, of which these are
	first, last int64 // the earliest and the latest
	sourceRows  int64 // of the source
	late        bool  // that SQL has to do it may be seen at any row
}

func newResampling(ctx context.Context, s *tables.Store, o *ResampleOptions) (*resampling, error) {
	table, err := s.Bucket(o.Source.Bucket).Table(ctx, o.Source.Name)
	if err != nil {
		return nil, err
	}
	asPut, err := table.SchemaAsPut(ctx)
	if err != nil {
		return nil, err
	}
	if o.SQL != "" {
		if o.Rule != "" || o.TimeColumn != "" || len(o.Functions) > 0 || o.Columns != nil {
			return nil, &tables.ArgumentError{Err: errors.New("a statement of SQL and a rule with its functions exclude each other")}
		}
		return &resampling{}, nil
	}
	source := schema.Plain(asPut)
	rule, err := parseRule(o.Rule)
	if err != nil {
		return nil, err
	}
	q := &resampling{time: o.TimeColumn, index: o.TimeIndex}
	at, err := field(source, o.TimeColumn)
	if err != nil {
		return nil, err
	}
	var label arrow.DataType
	if q.bins, label, err = newBins(rule, at.Type); err != nil {
		return nil, &tables.SchemaError{Column: at.Name, Err: err}
	}
	names := o.Columns
	if names == nil {
		for _, f := range source.Fields() {
			if f.Name != o.TimeColumn {
				names = append(names, f.Name)
			}
		}
	}
	for _, name := range names {
		f, err := field(source, name)
		if err != nil {
			return nil, err
		}
		if err := exact(f); err != nil && !zonedNanos(f) {
			return nil, err
		}
		q.nanos = q.nanos || zonedNanos(f)
		q.columns = append(q.columns, f)
	}
	q.nanos = q.nanos || zonedNanos(at)
	if q.all, err = aggregates(q.columns, o.Functions); err != nil {
		return nil, err
	}
	if q.asPut, err = q.dictionaries(asPut); err != nil {
		return nil, err
	}
	fields := []arrow.Field{{Name: at.Name, Type: label, Nullable: true}}
	for _, a := range q.all {
		if slices.ContainsFunc(fields, func(f arrow.Field) bool { return f.Name == a.field.Name }) {
			return nil, &tables.SchemaError{Column: a.field.Name, Err: errors.New("the result would have two columns of this name")}
		}
		fields = append(fields, a.field)
	}
	q.schema = arrow.NewSchema(fields, nil)
	notes := q.noted(source)
	q.schema = arrow.NewSchema(fields, &notes)
	return q, nil
}

// query returns the result, or nil if the bins that it was made for do not fit the
// rows that there are by now: those are asked for first, and rows may be put
// before the statement runs.
func (q *resampling) query(ctx context.Context, s *tables.Store, from TableName) (array.RecordReader, error) {
	if !q.known {
		err := q.bounds(ctx, s, from)
		if err != nil {
			return nil, err
		}
	}
	if err := q.bins.start(q.first, q.last); err != nil {
		return nil, err
	}
	rows, err := s.Query(ctx, q.sql(from.Name), &tables.QueryOptions{Bucket: from.Bucket, Nanoseconds: q.nanos})
	if err != nil {
		return nil, err
	}
	first := rows.Next()
	if err := rows.Err(); err != nil {
		rows.Release()
		return nil, err
	}
	if first {
		seen, err := integers(rows.RecordBatch(), 1, 2, 3)
		if err != nil {
			rows.Release()
			return nil, err
		}
		fits := seen[0] == q.first && seen[1] < q.bins.until
		if q.first, q.last, q.sourceRows, q.known = seen[0], seen[1], seen[2], true; !fits {
			rows.Release()
			return nil, nil
		}
	}
	return arrowsafe.Reader(q.schema, func(yield func(arrow.RecordBatch, error) bool) {
		for more := first; more; more = rows.Next() {
			b, err := q.batch(rows.RecordBatch())
			if !yield(b, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, err)
		}
	}, rows.Release), nil
}

// bounds finds the earliest and the latest time.
func (q *resampling) bounds(ctx context.Context, s *tables.Store, from TableName) error {
	at := sqlquote.Name(q.time) // the engine knows the ends of a column, not those of a function of it
	sql := fmt.Sprintf("SELECT %s, %s, count(*), count(%s) FROM %s", q.epoch("min("+at+")"), q.epoch("max("+at+")"), at, sqlquote.Name(from.Name))
	r, err := s.Query(ctx, sql, &tables.QueryOptions{Bucket: from.Bucket, Nanoseconds: zonedNanos(arrow.Field{Type: q.schema.Field(0).Type})})
	if err != nil {
		return err
	}
	defer r.Release()
	if !r.Next() {
		return errors.Join(r.Err(), errors.New("the engine gave no row of bounds"))
	}
	seen, err := integers(r.RecordBatch(), 0, 1, 2, 3)
	if err != nil {
		return err
	}
	q.first, q.last, q.sourceRows, q.known = seen[0], seen[1], seen[2], seen[3] > 0
	return nil
}

// epoch is a time as a whole number.
func (q *resampling) epoch(t string) string {
	if q.bins.second == 1e9 {
		return "epoch_ns(" + t + ")"
	}
	return "epoch_us(" + t + ")"
}

// inner are the time and the columns as the aggregates name them.
func (q *resampling) inner() string {
	inner := q.epoch(sqlquote.Name(q.time)) + " AS t"
	for i, c := range q.columns {
		x := sqlquote.Name(c.Name)
		if arrow.IsFloating(c.Type.ID()) {
			x = fmt.Sprintf("CASE WHEN NOT isnan(%[1]s) THEN %[1]s END", x)
		}
		inner += fmt.Sprintf(", %s AS c%d", x, i)
	}
	return inner
}

// sql is the statement whose rows have the number of a bin, what the bins were made
// for as it is now, the number of the source's rows, and the aggregates.
func (q *resampling) sql(table string) string {
	inner, order := q.inner(), ""
	if ordered(q.all) {
		inner += ", row_number() OVER () AS r"
		order = ", t::HUGEINT * 1099511627776 + r AS k" // 2 to the power of 40: more rows than there are
	}
	var in, out strings.Builder
	for i, a := range q.all {
		fmt.Fprintf(&in, ", %s AS a%d", a.sql, i)
		value := fmt.Sprint("a", i)
		if a.empty != "" {
			value = fmt.Sprintf("coalesce(%s, %s)", value, a.empty)
		}
		fmt.Fprintf(&out, ", %s AS a%d", value, i)
	}
	bins := "bins"
	for strings.EqualFold(bins, table) {
		bins += "_"
	}
	return fmt.Sprintf(`WITH %[1]s AS MATERIALIZED (
SELECT %[2]s AS b, min(t) AS lo, max(t) AS hi%[3]s
FROM (SELECT *%[4]s FROM (SELECT %[5]s FROM %[6]s)) WHERE t IS NOT NULL GROUP BY 1)
SELECT range AS bin, (SELECT min(lo) FROM %[1]s) AS lo, (SELECT max(hi) FROM %[1]s) AS hi, (SELECT count(*) FROM %[6]s) AS n%[7]s
FROM range((SELECT max(b) + 1 FROM %[1]s)) LEFT JOIN %[1]s ON range = b ORDER BY 1`,
		bins, q.bins.sql("t"), in.String(), order, inner, sqlquote.Name(table), out.String())
}

// batch is one of the result.
func (q *resampling) batch(b arrow.RecordBatch) (arrow.RecordBatch, error) {
	numbers, err := schema.ConvertArray(b.Column(0), integer)
	if err != nil {
		return nil, err
	}
	defer numbers.Release()
	labels, err := q.labels(numbers.(*array.Int64).Int64Values())
	if err != nil {
		return nil, err
	}
	defer labels.Release()
	columns := []arrow.Array{labels}
	for i, f := range q.schema.Fields()[1:] {
		c, err := schema.ConvertArray(b.Column(i+4), f.Type)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", f.Name, err)
		}
		defer c.Release()
		columns = append(columns, c)
	}
	return array.NewRecordBatch(q.schema, columns, b.NumRows()), nil
}

func (q *resampling) labels(bins []int64) (arrow.Array, error) {
	builder := array.NewBuilder(memory.DefaultAllocator, q.schema.Field(0).Type)
	defer builder.Release()
	for _, n := range bins {
		at, err := q.bins.labelOf(n)
		if err != nil {
			return nil, err
		}
		switch b := builder.(type) {
		case *array.TimestampBuilder:
			b.Append(arrow.Timestamp(at))
		case *array.Date32Builder:
			b.Append(arrow.Date32(at))
		}
	}
	return builder.NewArray(), nil
}
