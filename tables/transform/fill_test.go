package transform_test

import (
	"context"
	"errors"
	"fmt"
	"math"
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

// TestInterpolateAcrossBatches checks the interpolation between values that are so far apart that memory holds
// only a part of the bins between them. One column has values only at both ends, one only in the second half,
// one only in the first half, and one everywhere.
func TestInterpolateAcrossBatches(t *testing.T) {
	const rows, step = 20_001, 10 // seconds
	schema := arrow.NewSchema([]arrow.Field{timeField(arrow.Microsecond, "")}, nil)
	for _, name := range []string{"ends", "late", "early", "all"} {
		schema, _ = schema.AddField(schema.NumFields(), arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Float64, Nullable: true})
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for i := range rows {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(i * step * 1e6))
		for j, hasValue := range []bool{i == 0 || i == rows-1, i >= rows/2 && i%5_000 == 0, i <= rows/2 && i%5_000 == 0, true} {
			if x := b.Field(j + 1).(*array.Float64Builder); hasValue {
				x.Append(float64(i) * step)
			} else {
				x.AppendNull()
			}
		}
	}
	s := newStore(t)
	put(t, s, "in", tables.PutReplace, b.NewRecordBatch())
	r, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName("in"), Target: tableName("out"), Rule: "s", TimeColumn: "t", Functions: []string{"interpolate"}})
	if err != nil || r != (transform.Result{SourceRows: rows, TargetRows: (rows-1)*step + 1}) {
		t.Fatalf("Resample() = %+v, %v; want %d source rows and %d target rows", r, err, rows, (rows-1)*step+1)
	}
	_, batches := scan(t, s, "out")
	n, failures := 0, 0
	for _, b := range batches {
		for i := range int(b.NumRows()) {
			seconds, middle := float64(n), float64(rows/2*step)
			for j, want := range []float64{seconds, seconds, min(seconds, middle), seconds} {
				c := b.Column(j + 1).(*array.Float64)
				if j == 1 && seconds < middle {
					want = math.NaN()
				}
				if c.IsNull(i) != math.IsNaN(want) || c.IsValid(i) && math.Abs(c.Value(i)-want) > 1e-6 {
					if failures++; failures < 10 {
						t.Errorf("second %d, column %s: got %s, want %v", n, schema.Field(j+1).Name, c.ValueStr(i), want)
					}
				}
			}
			n++
		}
	}
}

// TestFillTypes checks that bins are filled with values of different types, from unordered rows, even if the
// columns have names that the statement uses.
func TestFillTypes(t *testing.T) {
	s := newStore(t)
	put(t, s, "in", tables.PutReplace, rows(t, `[{"t":"2026-01-01 10:00:03Z","lo":2,"pass":"1.50","n":["a"],"a0":null},{"t":"2026-01-01 10:00:00Z","lo":1,"pass":null,"n":["b","c"],"a0":true},{"t":null,"lo":9,"pass":"9","n":[],"a0":true}]`,
		timeField(arrow.Second, "Europe/Berlin"), arrow.Field{Name: "lo", Type: arrow.PrimitiveTypes.Uint64}, arrow.Field{Name: "pass", Type: &arrow.Decimal128Type{Precision: 5, Scale: 2}},
		arrow.Field{Name: "n", Type: arrow.ListOf(arrow.BinaryTypes.String)}, arrow.Field{Name: "a0", Type: arrow.FixedWidthTypes.Boolean}))
	row := func(second int, rest string) string {
		return fmt.Sprintf(`{%s,"t":"2026-01-01T11:00:%02d+01:00"}`, rest, second)
	}
	first, second := `"a0":true,"lo":1,"n":["b","c"],"pass":null`, `"a0":null,"lo":2,"n":["a"],"pass":"1.5"`
	nulls := `"a0":null,"lo":null,"n":null,"pass":null`
	for function, want := range map[string]string{
		"ffill":   row(0, first) + "," + row(1, first) + "," + row(2, first) + "," + row(3, second),
		"bfill":   row(0, first) + "," + row(1, second) + "," + row(2, second) + "," + row(3, second),
		"nearest": row(0, first) + "," + row(1, first) + "," + row(2, second) + "," + row(3, second),
		"asfreq":  row(0, first) + "," + row(1, nulls) + "," + row(2, nulls) + "," + row(3, second),
	} {
		got, types := resample(t, s, transform.ResampleOptions{Rule: "s", Functions: []string{function}})
		if got != want || types != "t timestamp[s, tz=Europe/Berlin], lo uint64, pass decimal(5, 2), n list<item: utf8, nullable>, a0 bool" {
			t.Errorf("function %s: got %s\n%s\nwant %s", function, types, got, want)
		}
	}
	got, _ := resample(t, s, transform.ResampleOptions{Rule: "1500ms", Functions: []string{"interpolate"}, Columns: []string{"lo", "pass"}})
	if want := `{"lo":1,"pass":null,"t":"2026-01-01T11:00:00+01:00"},{"lo":1.5,"pass":null,"t":"2026-01-01T11:00:01.5+01:00"},{"lo":2,"pass":1.5,"t":"2026-01-01T11:00:03+01:00"}`; got != want {
		t.Errorf("interpolate: got %s, want\n%s", got, want)
	}
}

// TestNearestOfEqualDistances checks that a bin in the middle between two rows gets the later row, as in pandas.
func TestNearestOfEqualDistances(t *testing.T) {
	s := newStore(t)
	put(t, s, "in", tables.PutReplace, rows(t, `[{"t":"2026-01-01 00:00:00","x":1},{"t":"2026-01-01 00:00:04","x":2}]`, timeField(arrow.Second, ""), arrow.Field{Name: "x", Type: integer}))
	got, _ := resample(t, s, transform.ResampleOptions{Rule: "s", Functions: []string{"nearest"}})
	want := `{"t":"2026-01-01T00:00:00","x":1},{"t":"2026-01-01T00:00:01","x":1},{"t":"2026-01-01T00:00:02","x":2},{"t":"2026-01-01T00:00:03","x":2},{"t":"2026-01-01T00:00:04","x":2}`
	if got != want {
		t.Errorf("nearest: got %s, want\n%s", got, want)
	}
}

func TestFillErrors(t *testing.T) {
	s := newStore(t)
	x := arrow.Field{Name: "x", Type: integer}
	put(t, s, "far", tables.PutReplace, rows(t, `[{"t":"2026-01-01 00:00:00","x":1},{"t":"9999-01-01 00:00:00","x":1}]`, timeField(arrow.Microsecond, ""), x))
	put(t, s, "twice", tables.PutReplace, rows(t, `[{"t":"2026-01-01 00:00:00","x":1},{"t":"2026-01-01 00:00:00.5","x":1},{"t":"2026-01-01 00:00:00.5","x":1}]`, timeField(arrow.Microsecond, ""), x))
	put(t, s, "none", tables.PutReplace, rows(t, `[{"t":null,"x":1}]`, timeField(arrow.Microsecond, ""), x))
	put(t, s, "text", tables.PutReplace, rows(t, `[{"t":"2026-01-01 00:00:00","x":"a"}]`, timeField(arrow.Microsecond, ""), arrow.Field{Name: "x", Type: arrow.BinaryTypes.String}))
	for _, function := range []string{"ffill", "bfill", "nearest", "asfreq", "interpolate"} {
		for source, want := range map[string]string{"far": "more than 1073741824 bins", "twice": `column "t": two rows have the time 2026-01-01T00:00:00.5Z, but ` + function + " allows only one"} {
			_, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName(source), Target: tableName("out"), Rule: "s", TimeColumn: "t", Functions: []string{function}})
			if err == nil || !strings.Contains(err.Error(), want) || errors.As(err, new(*tables.SchemaError)) != (source == "twice") {
				t.Errorf("%s of table %s: error = %v, want an error that contains %q", function, source, err, want)
			}
		}
		_, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName("far"), Target: tableName("out"), Rule: "YE", TimeColumn: "t", Functions: []string{function, "max"}})
		must.Fail(t, err, function+" must be the only function", "%s with another function", function)
		r, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName("none"), Target: tableName("empty"), Rule: "s", TimeColumn: "t", Functions: []string{function}, Mode: tables.PutReplace})
		if r != (transform.Result{SourceRows: 1}) || err != nil {
			t.Errorf("%s of a table without times: Resample() = %+v, %v; want 1 source row and no target rows", function, r, err)
		}
	}
	_, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName("text"), Target: tableName("out"), Rule: "s", TimeColumn: "t", Functions: []string{"interpolate"}})
	must.Fail(t, err, "interpolate needs numbers", "interpolate of texts")
	if _, err := s.Bucket("").Table("out").Info(t.Context()); !errors.Is(err, tables.ErrNotFound) {
		t.Error("a failed Resample() created the target table:", err)
	}
}

// TestFillCanceled checks that a canceled call returns soon, even while it fills a long gap.
func TestFillCanceled(t *testing.T) {
	s := newStore(t)
	put(t, s, "in", tables.PutReplace, rows(t, `[{"t":"2026-01-01 00:00:00","x":1},{"t":"2055-01-01 00:00:00","x":2}]`, timeField(arrow.Microsecond, ""), arrow.Field{Name: "x", Type: integer}))
	for _, function := range []string{"ffill", "interpolate"} {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		start := time.Now()
		_, err := transform.Resample(ctx, s, &transform.ResampleOptions{Source: tableName("in"), Target: tableName("out"), Rule: "s", TimeColumn: "t", Functions: []string{function}})
		if cancel(); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
			t.Errorf("%s: Resample() error = %v after %v, want %v within 5 s", function, err, time.Since(start), context.DeadlineExceeded)
		}
	}
}

// TestFillLargeRow fills many bins with a large row. Resample must not hold a copy of the row for every bin
// in memory.
func TestFillLargeRow(t *testing.T) {
	s := newStore(t)
	largeText := strings.Repeat("x", 1<<20)
	put(t, s, "in", tables.PutReplace, rows(t, `[{"t":"2026-01-01 00:00:00","x":"`+largeText+`"},{"t":"2026-01-01 00:01:40","x":"y"}]`, timeField(arrow.Microsecond, ""), arrow.Field{Name: "x", Type: arrow.BinaryTypes.String}))
	must.Get(transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName("in"), Target: tableName("out"), Rule: "s", TimeColumn: "t", Functions: []string{"ffill"}}))(t)
	_, batches := scan(t, s, "out")
	n := 0
	for _, b := range batches {
		for i := range int(b.NumRows()) {
			if x := b.Column(1).(*array.String).Value(i); (x == largeText) != (n < 100) {
				t.Errorf("bin %d has a wrong text of %d bytes", n, len(x))
			}
			n++
		}
	}
	if n != 101 {
		t.Errorf("the target has %d bins, want 101", n)
	}
}
