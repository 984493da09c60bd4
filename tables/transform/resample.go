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
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// Resample puts into a table either the rows of an SQL statement or, like pandas' resample, one row of aggregates per
// time bin.
func Resample(ctx context.Context, s *tables.Store, o *ResampleOptions) (result Result, err error) {
	o = cmp.Or(o, new(ResampleOptions))
	defer func() { err = opError("resample", o.Source, err) }()
	q, err := newResampling(ctx, s, o)
	if err != nil {
		return result, err
	}
	target := s.Bucket(o.Target.Bucket).Table(o.Target.Name)
	if _, err := target.Settings(ctx); !errors.Is(err, tables.ErrNotFound) {
		q.settings = nil // an existing table keeps its settings
	}
	for _, inOrder := range []bool{true, false} {
		r, err := q.rows(ctx, s, o, inOrder)
		if err != nil {
			return result, err
		}
		result.TargetRows, err = put(ctx, s, r, o.Target, o.Mode, &tables.PutOptions{Settings: q.settings})
		r.Release()
		result.SourceRows = q.sourceRows
		if !errors.Is(err, errNeedsSQL) {
			return result, err
		}
	}
	return result, errNeedsSQL
}

// Resampled returns the rows that Resample would put. It ignores Target and Mode. The caller must release the
// reader, and check its error after the last row.
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
	// If errNeedsSQL can occur as late as at the last row, buffer the bins until all rows have been read. If the bins
	// do not fit into the buffer, use SQL.
	var buffered []arrow.RecordBatch
	bytes, hasNext := int64(0), r.Next()
	for ; hasNext; hasNext = r.Next() {
		r.RecordBatch().Retain()
		buffered = append(buffered, r.RecordBatch())
		bytes += util.TotalRecordSize(r.RecordBatch())
		if !q.lateFallback || bytes > maxBuffered {
			break
		}
	}
	if hasNext && q.lateFallback || errors.Is(r.Err(), errNeedsSQL) {
		take.Release(buffered)
		r.Release()
		buffered = nil
		r, err = q.rows(ctx, s, o, false)
		if err != nil {
			return nil, err
		}
	}
	rest := batches.MapError(batches.Of(r), func(err error) error {
		if errors.Is(err, errNeedsSQL) { // after the first bins, the only cause is a time that SQL cannot represent either
			err = q.bins.labelError()
		}
		return opError("resample", o.Source, err)
	})
	return batches.Reader(r.Schema(), batches.Concat(batches.From(buffered...), rest), func() {
		take.Release(buffered)
		r.Release()
	}), nil
}

// maxBuffered limits the bytes of bins that Resampled buffers until it has read all rows.
const maxBuffered = 16 << 20

// rows returns the result, in which dictionary columns of the source remain dictionaries. If inOrder is set, rows tries
// to do without SQL, and the reader may fail with errNeedsSQL.
func (q *resampling) rows(ctx context.Context, s *tables.Store, o *ResampleOptions, inOrder bool) (r array.RecordReader, err error) {
	switch {
	case o.SQL != "":
		return s.Query(ctx, o.SQL, &tables.QueryOptions{Bucket: o.Source.Bucket})
	case q.fillFunction() != "":
		r, err = q.fill(ctx, s, o.Source)
	case inOrder && len(q.by) == 0:
		r, err = q.inOrder(ctx, s, o.Source)
	}
	for n := 0; r == nil && err == nil; n++ {
		if n == maxAttempts {
			return nil, fmt.Errorf("%w: other processes keep putting rows earlier than all existing rows", tables.ErrConflict)
		}
		r, err = q.query(ctx, s, o.Source)
	}
	if err != nil {
		return nil, err
	}
	return tables.AsDictionaries(r, q.dictionaries)
}

// maxAttempts limits how often an operation starts again because of concurrent puts.
const maxAttempts = 10

// resampling is the state of a Resample or Resampled. It is empty if ResampleOptions.SQL is set.
type resampling struct {
	timeColumn    string
	timeIndex     bool // the time column becomes pandas' index
	columns       []arrow.Field
	by            []arrow.Field    // the columns by which rows are grouped
	settings      *tables.Settings // for a new target; nil if there are none
	aggregates    []aggregate
	schema        *arrow.Schema // the result's schema, without dictionaries
	dictionaries  *arrow.Schema // the result's dictionary columns
	hasZonedNanos bool          // a column has nanoseconds with a zone

	bins         *bins
	hasTimes     bool  // first and last are set; false if the source has no time that is not null
	first, last  int64 // earliest and latest time of the source
	sourceRows   int64 // rows of the source
	lateFallback bool  // inOrder's reader may fail with errNeedsSQL as late as at the last row
}

func newResampling(ctx context.Context, s *tables.Store, o *ResampleOptions) (*resampling, error) {
	table := s.Bucket(o.Source.Bucket).Table(o.Source.Name)
	asPut, err := table.SchemaAsPut(ctx)
	if err != nil {
		return nil, err
	}
	if o.SQL != "" {
		if o.Rule != "" || o.TimeColumn != "" || len(o.Functions) > 0 || o.Columns != nil {
			return nil, &tables.ArgumentError{Err: errors.New("set either SQL, or Rule, TimeColumn and Functions")}
		}
		return &resampling{}, nil
	}
	source := schema.WithoutEncodings(asPut)
	rule, err := parseRule(o.Rule)
	if err != nil {
		return nil, err
	}
	q := &resampling{timeColumn: o.TimeColumn, timeIndex: o.TimeIndex}
	timeField, err := field(source, o.TimeColumn)
	if err != nil {
		return nil, err
	}
	var label arrow.DataType
	q.bins, label, err = newBins(rule, timeField.Type)
	if err != nil {
		return nil, &tables.SchemaError{Column: timeField.Name, Err: err}
	}
	calls, named, err := o.Functions.parse()
	if err != nil {
		return nil, err
	}
	if named != nil && o.Columns != nil {
		return nil, &tables.ArgumentError{Err: fmt.Errorf("functions that name columns, such as %q, cannot be combined with Columns: remove one of them", o.Functions[0])}
	}
	if err := q.groupBy(ctx, table, source, o.By); err != nil {
		return nil, err
	}
	if err := q.chooseColumns(source, o.Columns, named); err != nil {
		return nil, err
	}
	q.hasZonedNanos = isZonedNanos(timeField) || slices.ContainsFunc(q.columns, isZonedNanos)
	q.aggregates, err = newAggregates(q.columns, calls)
	if err != nil {
		return nil, err
	}
	q.dictionaries, err = q.findDictionaries(asPut)
	if err != nil {
		return nil, err
	}
	if fill := q.fillFunction(); fill != "" && len(q.by) > 0 {
		return nil, &tables.ArgumentError{Err: fmt.Errorf("%[1]s cannot group by %[2]q: put the rows of one group into a table first, with SQL such as SELECT * FROM %[3]s WHERE %[2]s = …",
			fill, q.by[0].Name, sqltext.Name(o.Source.Name))}
	}
	fields := []arrow.Field{{Name: timeField.Name, Type: label, Nullable: true, Metadata: timeMetadata(timeField, label)}}
	valueFields := slices.Clone(q.by)
	for _, a := range q.aggregates {
		valueFields = append(valueFields, a.field)
	}
	for _, f := range valueFields {
		if slices.ContainsFunc(fields, func(other arrow.Field) bool { return other.Name == f.Name }) {
			return nil, &tables.SchemaError{Column: f.Name, Err: errors.New("the result would have two columns with this name: choose other columns, or do not group")}
		}
		fields = append(fields, f)
	}
	q.schema = arrow.NewSchema(fields, nil)
	notes := q.pandasMetadata(source)
	q.schema = arrow.NewSchema(fields, &notes)
	return q, nil
}

// chooseColumns sets the columns to aggregate: columns (from the options) and named (from function calls). If both are
// nil, it chooses all columns except the time column and the grouping columns.
func (q *resampling) chooseColumns(source *arrow.Schema, columns, named []string) error {
	if columns == nil && named == nil {
		for _, f := range source.Fields() {
			if f.Name != q.timeColumn && !slices.ContainsFunc(q.by, func(by arrow.Field) bool { return by.Name == f.Name }) {
				q.columns = append(q.columns, f)
			}
		}
	}
	for _, name := range slices.Concat(columns, named) {
		f, err := field(source, name)
		if err != nil {
			return err
		}
		q.columns = append(q.columns, f)
	}
	for _, f := range q.columns {
		if err := checkExact(f); err != nil && !isZonedNanos(f) {
			return err
		}
	}
	return nil
}

// groupBy sets the grouping columns; nil names mean the table's keys. If all grouping columns are keys, it also sets
// the settings for a new target.
func (q *resampling) groupBy(ctx context.Context, table *tables.Table, source *arrow.Schema, names []string) error {
	settings, err := table.Settings(ctx)
	if err != nil {
		return err
	}
	if names == nil {
		names = settings.Keys
	}
	var keys []string
	for _, name := range names {
		f, err := field(source, name)
		if err == nil {
			err = checkExact(f)
		}
		if err != nil {
			return err
		}
		q.by = append(q.by, f)
		if slices.Contains(settings.Keys, name) {
			keys = append(keys, name)
		}
	}
	if len(keys) == len(names) && keys != nil {
		q.settings = &tables.Settings{Time: q.timeColumn, Keys: keys}
	}
	return nil
}

// query returns the result of q.sql. The bins depend on the earliest and the latest time, which query reads first if
// they are unknown. If rows that have been put since do not fit into the bins, query returns nil; the next attempt uses
// the new times.
func (q *resampling) query(ctx context.Context, s *tables.Store, from TableName) (array.RecordReader, error) {
	if !q.hasTimes {
		err := q.bounds(ctx, s, from)
		if err != nil {
			return nil, err
		}
	}
	if err := q.bins.start(q.first, q.last); err != nil {
		return nil, err
	}
	rows, err := s.Query(ctx, q.sql(from.Name), &tables.QueryOptions{Bucket: from.Bucket, Nanoseconds: q.hasZonedNanos})
	if err != nil {
		return nil, err
	}
	hasRow := rows.Next()
	if err := rows.Err(); err != nil {
		rows.Release()
		return nil, err
	}
	if hasRow {
		bounds, err := integers(rows.RecordBatch(), 1, 2, 3)
		if err != nil {
			rows.Release()
			return nil, err
		}
		fits := bounds[0] == q.first && bounds[1] < q.bins.shiftsEnd
		q.first, q.last, q.sourceRows, q.hasTimes = bounds[0], bounds[1], bounds[2], true
		if !fits {
			rows.Release()
			return nil, nil
		}
	}
	return batches.Reader(q.schema, func(yield func(arrow.RecordBatch, error) bool) {
		for ok := hasRow; ok; ok = rows.Next() {
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

// bounds reads the earliest and the latest time.
func (q *resampling) bounds(ctx context.Context, s *tables.Store, from TableName) error {
	// For a bare column, the engine takes min and max from statistics; for an expression, it would read all rows.
	timeColumn := sqltext.Name(q.timeColumn)
	sql := fmt.Sprintf("SELECT %s, %s, count(*), count(%s) FROM %s", q.epochSQL("min("+timeColumn+")"), q.epochSQL("max("+timeColumn+")"), timeColumn, sqltext.Name(from.Name))
	r, err := s.Query(ctx, sql, &tables.QueryOptions{Bucket: from.Bucket, Nanoseconds: isZonedNanos(q.schema.Field(0))})
	if err != nil {
		return err
	}
	defer r.Release()
	if !r.Next() {
		return errors.Join(r.Err(), errors.New("the SQL engine did not return the earliest and the latest time"))
	}
	bounds, err := integers(r.RecordBatch(), 0, 1, 2, 3)
	if err != nil {
		return err
	}
	q.first, q.last, q.sourceRows, q.hasTimes = bounds[0], bounds[1], bounds[2], bounds[3] > 0
	return nil
}

func (q *resampling) epochSQL(t string) string {
	if q.bins.second == 1e9 {
		return "epoch_ns(" + t + ")"
	}
	return "epoch_us(" + t + ")"
}

// innerSQL returns a select list: the time as t, the columns to aggregate as c0, c1 …, the grouping columns as g0, g1 ….
func (q *resampling) innerSQL() string {
	inner := q.epochSQL(sqltext.Name(q.timeColumn)) + " AS t"
	for i, c := range q.columns {
		x := sqltext.Name(c.Name)
		if arrow.IsFloating(c.Type.ID()) {
			x = fmt.Sprintf("CASE WHEN NOT isnan(%[1]s) THEN %[1]s END", x)
		}
		inner += fmt.Sprintf(", %s AS c%d", x, i)
	}
	for i, f := range q.by {
		inner += fmt.Sprintf(", %s AS g%d", sqltext.Name(f.Name), i)
	}
	return inner
}

// sql returns the statement for query. Its columns are the bin's index, the earliest and the latest time, the number of
// source rows, the grouping columns, and the aggregates.
func (q *resampling) sql(table string) string {
	inner, order := q.innerSQL(), ""
	if needsOrder(q.aggregates) {
		inner += ", row_number() OVER () AS r"
		order = ", t::HUGEINT * 1099511627776 + r AS k" // 2^40, because no table has that many rows
	}
	var binColumns, resultColumns, groups, groupPositions, sameGroup strings.Builder
	for i := range q.by {
		fmt.Fprintf(&groups, ", g%d", i)
		fmt.Fprintf(&resultColumns, ", s.g%d", i)
		fmt.Fprintf(&groupPositions, ", %d", i+5) // after the first four columns
		fmt.Fprintf(&sameGroup, " AND s.g%[1]d IS NOT DISTINCT FROM f.g%[1]d", i)
	}
	for i, a := range q.aggregates {
		fmt.Fprintf(&binColumns, ", %s AS a%d", a.sql, i)
		value := fmt.Sprint("a", i)
		if a.empty != "" {
			value = fmt.Sprintf("coalesce(%s, %s)", value, a.empty)
		}
		fmt.Fprintf(&resultColumns, ", %s AS a%d", value, i)
	}
	bins := "bins"
	for strings.EqualFold(bins, table) {
		bins += "_"
	}
	allBins := fmt.Sprintf("range((SELECT max(b) + 1 FROM %s))", bins)
	if len(q.by) > 0 {
		allBins = fmt.Sprintf("(SELECT unnest(range(min(b), max(b) + 1)) AS range%[2]s FROM %[1]s GROUP BY ALL)", bins, groups.String())
	}
	return fmt.Sprintf(`WITH %[1]s AS MATERIALIZED (
SELECT %[2]s AS b%[8]s, min(t) AS lo, max(t) AS hi%[3]s
FROM (SELECT *%[4]s FROM (SELECT %[5]s FROM %[6]s)) WHERE t IS NOT NULL GROUP BY 1%[8]s)
SELECT range AS bin, (SELECT min(lo) FROM %[1]s) AS lo, (SELECT max(hi) FROM %[1]s) AS hi, (SELECT count(*) FROM %[6]s) AS n%[7]s
FROM %[9]s s LEFT JOIN %[1]s f ON range = b%[10]s ORDER BY 1%[11]s`,
		bins, q.bins.sql("t"), binColumns.String(), order, inner, sqltext.Name(table), resultColumns.String(), groups.String(), allBins, sameGroup.String(), groupPositions.String())
}

// batch converts a batch of q.sql's rows to rows of the result. It omits absent bins (see bins.isAbsent).
func (q *resampling) batch(b arrow.RecordBatch) (arrow.RecordBatch, error) {
	binIndexes, err := schema.ConvertArray(b.Column(0), int64Type)
	if err != nil {
		return nil, err
	}
	defer binIndexes.Release()
	keep := make([]bool, b.NumRows())
	for i, n := range binIndexes.(*array.Int64).Int64Values() {
		keep[i] = !q.bins.isAbsent(n)
	}
	if slices.Contains(keep, false) {
		b, err = take.Where(b, keep)
		if err != nil {
			return nil, err
		}
		defer b.Release()
		return q.batch(b)
	}
	labels, err := q.labels(binIndexes.(*array.Int64).Int64Values())
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

func (q *resampling) labels(binIndexes []int64) (arrow.Array, error) {
	builder := array.NewBuilder(memory.DefaultAllocator, q.schema.Field(0).Type)
	defer builder.Release()
	appendLabel := arrowtype.Of(builder.Type()).IntAppender(builder)
	for _, n := range binIndexes {
		label, err := q.bins.labelOf(n)
		if err != nil {
			return nil, err
		}
		appendLabel(label)
	}
	return builder.NewArray(), nil
}
