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

// What Resampled reads is what Resample puts: in order, by SQL, where it is seen late that SQL
// has to do it, of texts that are kept beyond a batch, by a filler and by a statement.
func TestResampled(t *testing.T) {
	s := newStore(t)
	const many = 600_000
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		stamps(arrow.Microsecond, "America/St_Johns"), {Name: "x", Type: integer, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil))
	add := func(at time.Time, x int64) {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(at.UnixMicro()))
		b.Field(1).(*array.Int64Builder).Append(x)
		b.Field(2).(*array.StringBuilder).Append(fmt.Sprint("text of ", at))
	}
	midnight := time.Date(2006, 10, 29, 2, 31, 0, 0, time.UTC) // at 00:01 it was 23:01 of the 28th again
	for i := range int64(many) {
		add(midnight.Add(time.Duration(i-many)*time.Second), i)
	}
	add(midnight.Add(9*time.Minute), 4)
	add(midnight.Add(3*time.Hour), 8)
	in := b.NewRecordBatch()
	inTime(t, s, in.NewSlice(0, many/2), in.NewSlice(many/2, many/2+100), in.NewSlice(many/2+100, in.NumRows()))
	for _, o := range []transform.ResampleOptions{
		{Rule: "min", Functions: []string{"mean", "size"}, Columns: []string{"x"}},
		{Rule: "100h", Functions: []string{"first", "last"}, Columns: []string{"s"}},
		{Rule: "D", Functions: []string{"sum", "size"}, Columns: []string{"x"}},
		{Rule: "h", Functions: []string{"median"}, Columns: []string{"x"}},
		{Rule: "h", Functions: []string{"ffill"}, Columns: []string{"s"}},
	} {
		o.TimeIndex = true
		want, wantTypes := resampled(t, s, o)
		o.Source, o.TimeColumn = named("in"), "t"
		got, types := read(t, s, o)
		if got != want || types != wantTypes || len(want) == 0 {
			t.Errorf("%+v: %d and %d bytes of rows differ, or %s and %s", o, len(got), len(want), types, wantTypes)
		}
	}
	if got, _ := read(t, s, transform.ResampleOptions{Source: named("in"), SQL: `SELECT count(*) AS n FROM "in"`}); got != fmt.Sprintf(`{"n":%d}`, many+2) {
		t.Error(got)
	}
	if _, err := transform.Resampled(t.Context(), s, &transform.ResampleOptions{Source: named("in"), Rule: "min", TimeColumn: "x", Functions: []string{"mean"}}); !errors.As(err, new(*tables.OpError)) {
		t.Error(err)
	}
}

// read puts what Resampled reads into a table, and returns what that has.
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

// Clocks that go back over midnight, which is seen when many bins were made, are SQL's from the
// beginning.
func TestResampledLate(t *testing.T) {
	s := newStore(t)
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{stamps(arrow.Microsecond, "America/St_Johns")}, nil))
	midnight := time.Date(2006, 10, 29, 2, 31, 0, 0, time.UTC)
	for days := 9000; days > 0; days-- {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(midnight.AddDate(0, 0, -days).Add(14 * time.Hour).UnixMicro()))
	}
	early := b.NewRecordBatch()
	for _, at := range []time.Time{midnight.Add(-time.Minute), midnight.Add(9 * time.Minute), midnight.Add(3 * time.Hour)} {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(at.UnixMicro()))
	}
	inTime(t, s, early, b.NewRecordBatch())
	o := transform.ResampleOptions{Rule: "D", Functions: []string{"size"}, TimeIndex: true}
	want, _ := resampled(t, s, o)
	o.Source, o.TimeColumn = named("in"), "t"
	if got, _ := read(t, s, o); got != want || len(want) == 0 {
		t.Errorf("%d and %d bytes of rows differ", len(got), len(want))
	}
}

// A date that is seen late, and is beyond all timestamps, ends what Resampled reads with an error
// that says so, as it ends Resample.
func TestResampledBeyond(t *testing.T) {
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
	inTime(t, s, in)
	o := transform.ResampleOptions{Source: named("in"), Target: named("out"), Rule: "D", TimeColumn: "t", Functions: []string{"size"}}
	if _, err := transform.Resample(t.Context(), s, &o); err == nil {
		t.Error("no error of Resample")
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
	if err := r.Err(); rows == 0 || !errors.As(err, new(*tables.OpError)) || !strings.Contains(err.Error(), "beyond what a timestamp can hold") {
		t.Errorf("%d rows, then %v", rows, err)
	}
}
