package transform_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/transform"
)

// TestResampled checks that Resampled returns the same rows that Resample puts, whether they are computed in
// time order, by SQL, or in time order at first and then by SQL. It also checks texts that are used after
// their batch was released, a fill function, and an SQL statement.
func TestResampled(t *testing.T) {
	s := newStore(t)
	const count = 600_000
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		timeField(arrow.Microsecond, "America/St_Johns"), {Name: "x", Type: integer, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil))
	addRow := func(timestamp time.Time, x int64) {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(timestamp.UnixMicro()))
		b.Field(1).(*array.Int64Builder).Append(x)
		b.Field(2).(*array.StringBuilder).Append(fmt.Sprint("text of ", timestamp))
	}
	midnight := time.Date(2006, 10, 29, 2, 31, 0, 0, time.UTC) // in this zone, 00:01 was followed by 23:01 on the 28th
	for i := range int64(count) {
		addRow(midnight.Add(time.Duration(i-count)*time.Second), i)
	}
	addRow(midnight.Add(9*time.Minute), 4)
	addRow(midnight.Add(3*time.Hour), 8)
	in := b.NewRecordBatch()
	putByTime(t, s, in.NewSlice(0, count/2), in.NewSlice(count/2, count/2+100), in.NewSlice(count/2+100, in.NumRows()))
	for _, o := range []transform.ResampleOptions{
		{Rule: "min", Functions: []string{"mean", "size"}, Columns: []string{"x"}},
		{Rule: "100h", Functions: []string{"first", "last"}, Columns: []string{"s"}},
		{Rule: "D", Functions: []string{"sum", "size"}, Columns: []string{"x"}},
		{Rule: "h", Functions: []string{"median"}, Columns: []string{"x"}},
		{Rule: "h", Functions: []string{"ffill"}, Columns: []string{"s"}},
	} {
		o.TimeIndex = true
		want, wantTypes := resample(t, s, o)
		o.Source, o.TimeColumn = tableName("in"), "t"
		got, types := readResampled(t, s, o)
		if got != want || types != wantTypes || len(want) == 0 {
			t.Errorf("%+v: Resampled() returns other rows (%d bytes, types %s) than Resample() (%d bytes, types %s)", o, len(got), types, len(want), wantTypes)
		}
	}
	if got, _ := readResampled(t, s, transform.ResampleOptions{Source: tableName("in"), SQL: `SELECT count(*) AS n FROM "in"`}); got != fmt.Sprintf(`{"n":%d}`, count+2) {
		t.Errorf("Resampled() with SQL yields %s, want the number of rows", got)
	}
	if _, err := transform.Resampled(t.Context(), s, &transform.ResampleOptions{Source: tableName("in"), Rule: "min", TimeColumn: "x", Functions: []string{"mean"}}); !errors.As(err, new(*tables.OpError)) {
		t.Errorf("Resampled() with a wrong time column: error = %v, want an OpError", err)
	}
}

// readResampled puts the rows of Resampled into a table, and returns the table's content.
func readResampled(t *testing.T, s *tables.Store, o transform.ResampleOptions) (json, types string) {
	t.Helper()
	r := must.Get(transform.Resampled(t.Context(), s, &o))(t)
	defer r.Release()
	must.Get(s.Bucket("").Table("read").Put(t.Context(), r, tables.PutReplace, nil))(t)
	return text(t, s, "read")
}

// TestResampledLateFallback checks that SQL resamples from the beginning if clocks were set back across
// midnight, which the in-order algorithm detects only after many bins.
func TestResampledLateFallback(t *testing.T) {
	s := newStore(t)
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{timeField(arrow.Microsecond, "America/St_Johns")}, nil))
	midnight := time.Date(2006, 10, 29, 2, 31, 0, 0, time.UTC)
	for days := 9000; days > 0; days-- {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(midnight.AddDate(0, 0, -days).Add(14 * time.Hour).UnixMicro()))
	}
	earlyRows := b.NewRecordBatch()
	for _, timestamp := range []time.Time{midnight.Add(-time.Minute), midnight.Add(9 * time.Minute), midnight.Add(3 * time.Hour)} {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(timestamp.UnixMicro()))
	}
	putByTime(t, s, earlyRows, b.NewRecordBatch())
	o := transform.ResampleOptions{Rule: "D", Functions: []string{"size"}, TimeIndex: true}
	want, _ := resample(t, s, o)
	o.Source, o.TimeColumn = tableName("in"), "t"
	if got, _ := readResampled(t, s, o); got != want || len(want) == 0 {
		t.Errorf("Resampled() returns other rows (%d bytes) than Resample() (%d bytes)", len(got), len(want))
	}
}

// TestResampledOutOfRange checks that both Resample and Resampled return an error for a date outside the
// range of timestamps, even if it is in the last row.
func TestResampledOutOfRange(t *testing.T) {
	s := newStore(t)
	date := arrow.Field{Name: "t", Type: arrow.FixedWidthTypes.Date32, Nullable: true}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{date}, nil))
	dates := make([]arrow.Date32, 600_001)
	for i := range dates {
		dates[i] = arrow.Date32(i)
	}
	dates[len(dates)-1] = 120_000_000
	b.Field(0).(*array.Date32Builder).AppendValues(dates, nil)
	in := b.NewRecordBatch()
	putByTime(t, s, in)
	o := transform.ResampleOptions{Source: tableName("in"), Target: tableName("out"), Rule: "D", TimeColumn: "t", Functions: []string{"size"}}
	if _, err := transform.Resample(t.Context(), s, &o); err == nil {
		t.Error("Resample() returned no error")
	}
	r := must.Get(transform.Resampled(t.Context(), s, &o))(t)
	defer r.Release()
	rows := int64(0)
	for r.Next() {
		rows += r.RecordBatch().NumRows()
	}
	if err := r.Err(); rows == 0 || !errors.As(err, new(*tables.OpError)) || !strings.Contains(err.Error(), "outside the range of timestamps") {
		t.Errorf("Resampled() yields %d rows and the error %v, want some rows and then an error about the range", rows, err)
	}
}

// TestResampledOverflow checks that Resampled reports a sum that overflows, naming the column, whether it visits the
// rows in time order or uses SQL.
func TestResampledOverflow(t *testing.T) {
	for _, c := range []struct {
		typ   arrow.DataType
		value string
	}{{arrow.PrimitiveTypes.Int64, "9223372036854775807"}, {arrow.PrimitiveTypes.Int64, "-9223372036854775808"}, {arrow.PrimitiveTypes.Uint64, "18446744073709551615"}} {
		for order, times := range map[string][]int{"in order": {1, 2}, "late": {2, 1}} {
			s := newStore(t)
			put(t, s, "in", tables.PutReplace, rows(t, fmt.Sprintf(`[{"t":"2024-01-01 00:00:0%d","x":%s},{"t":"2024-01-01 00:00:0%d","x":%s}]`, times[0], c.value, times[1], c.value),
				timeField(arrow.Microsecond, ""), arrow.Field{Name: "x", Type: c.typ}))
			o := transform.ResampleOptions{Source: tableName("in"), Rule: "D", TimeColumn: "t", Functions: []string{"sum"}}
			r, err := transform.Resampled(t.Context(), s, &o)
			n := int64(0)
			if err == nil {
				for r.Next() {
					n += r.RecordBatch().NumRows()
				}
				err = r.Err()
				r.Release()
			}
			if want := fmt.Sprintf("column \"x\": the sum of a bin's values overflows %s", c.typ); n > 0 || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Resampled() of %s, rows %s: %d rows, error %v; want the error %s", c.value, order, n, err, want)
			}
		}
	}
}
