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

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/transform"
)

// Resampled returns the rows that Resample puts: in order, by SQL, after a late fallback to SQL, with texts
// that are used beyond their batch, with a fill function, and with a statement.
func TestResampled(t *testing.T) {
	s := newStore(t)
	const count = 600_000
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		timeField(arrow.Microsecond, "America/St_Johns"), {Name: "x", Type: integer, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil))
	add := func(timestamp time.Time, x int64) {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(timestamp.UnixMicro()))
		b.Field(1).(*array.Int64Builder).Append(x)
		b.Field(2).(*array.StringBuilder).Append(fmt.Sprint("text of ", timestamp))
	}
	midnight := time.Date(2006, 10, 29, 2, 31, 0, 0, time.UTC) // 00:01 was followed by 23:01 of the 28th
	for i := range int64(count) {
		add(midnight.Add(time.Duration(i-count)*time.Second), i)
	}
	add(midnight.Add(9*time.Minute), 4)
	add(midnight.Add(3*time.Hour), 8)
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
		got, types := read(t, s, o)
		if got != want || types != wantTypes || len(want) == 0 {
			t.Errorf("%+v: %d and %d bytes of rows differ, or %s and %s", o, len(got), len(want), types, wantTypes)
		}
	}
	if got, _ := read(t, s, transform.ResampleOptions{Source: tableName("in"), SQL: `SELECT count(*) AS n FROM "in"`}); got != fmt.Sprintf(`{"n":%d}`, count+2) {
		t.Error(got)
	}
	if _, err := transform.Resampled(t.Context(), s, &transform.ResampleOptions{Source: tableName("in"), Rule: "min", TimeColumn: "x", Functions: []string{"mean"}}); !errors.As(err, new(*tables.OpError)) {
		t.Error(err)
	}
}

// read puts the rows of Resampled into a table, and returns the table's content.
func read(t *testing.T, s *tables.Store, o transform.ResampleOptions) (json, types string) {
	t.Helper()
	r, err := transform.Resampled(t.Context(), s, &o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if _, err := s.Bucket("").Put(t.Context(), "read", r, tables.PutReplace, nil); err != nil {
		t.Fatal(err)
	}
	return text(t, s, "read")
}

// If clocks were set back across midnight, which is noticed after many bins, SQL resamples from the
// beginning.
func TestResampledLateFallback(t *testing.T) {
	s := newStore(t)
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{timeField(arrow.Microsecond, "America/St_Johns")}, nil))
	midnight := time.Date(2006, 10, 29, 2, 31, 0, 0, time.UTC)
	for days := 9000; days > 0; days-- {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(midnight.AddDate(0, 0, -days).Add(14 * time.Hour).UnixMicro()))
	}
	early := b.NewRecordBatch()
	for _, at := range []time.Time{midnight.Add(-time.Minute), midnight.Add(9 * time.Minute), midnight.Add(3 * time.Hour)} {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(at.UnixMicro()))
	}
	putByTime(t, s, early, b.NewRecordBatch())
	o := transform.ResampleOptions{Rule: "D", Functions: []string{"size"}, TimeIndex: true}
	want, _ := resample(t, s, o)
	o.Source, o.TimeColumn = tableName("in"), "t"
	if got, _ := read(t, s, o); got != want || len(want) == 0 {
		t.Errorf("%d and %d bytes of rows differ", len(got), len(want))
	}
}

// A date outside the range of timestamps is an error of Resampled, as it is of Resample, even if
// it comes late.
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
		t.Error("Resample returned no error")
	}
	r, err := transform.Resampled(t.Context(), s, &o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	rows := int64(0)
	for r.Next() {
		rows += r.RecordBatch().NumRows()
	}
	if err := r.Err(); rows == 0 || !errors.As(err, new(*tables.OpError)) || !strings.Contains(err.Error(), "outside the range of timestamps") {
		t.Errorf("%d rows, then %v", rows, err)
	}
}
