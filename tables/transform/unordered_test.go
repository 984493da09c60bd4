package transform_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/take"
	"github.com/go-partd/partd/tables/transform"
)

// ticks makes rows one second after another, with the number of each; times[i] is another time
// of row i, -1 none.
func ticks(n int, times map[int]int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "t", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true}, {Name: "x", Type: integer, Nullable: true},
	}, nil))
	defer b.Release()
	at := b.Field(0).(*array.TimestampBuilder)
	for i := range n {
		second, other := times[i]
		switch {
		case !other:
			at.Append(arrow.Timestamp(i * 1e6))
		case second < 0:
			at.AppendNull()
		default:
			at.Append(arrow.Timestamp(second * 1e6))
		}
		b.Field(1).(*array.Int64Builder).Append(int64(i))
	}
	return b.NewRecordBatch()
}

// Without an order in the settings, a row that comes late, in the tail or in a file, or one
// without a time, has SQL resample from the beginning, however many bins were made before. The
// same rows with an order in the settings give the same bins.
func TestResampleLateRow(t *testing.T) {
	const many = 20_000
	engine, plain, ordered := newStore(t), withoutSQL(t), withoutSQL(t)
	for name, times := range map[string]map[int]int{
		"last": {many - 1: 5}, "first": {0: many}, "second": {1: 0, 2: 0, 3: 1}, "null": {many / 2: -1}, "null first": {0: -1},
	} {
		batch := ticks(many, times)
		timed := make([]bool, many)
		for i := range timed {
			timed[i] = batch.Column(0).IsValid(i)
		}
		whole, err := take.Where(batch, timed)
		if err != nil {
			t.Fatal(err)
		}
		inTime(t, ordered, whole)
		for _, at := range []int64{0, many} { // in a file; in the tail
			for _, s := range []*tables.Store{engine, plain} {
				put(t, s, "in", tables.PutReplace, batch.NewSlice(0, at))
				put(t, s, "in", tables.PutAppend, batch.NewSlice(at, many))
			}
			for _, functions := range []string{"sum,first,last,size", "median"} {
				o := transform.ResampleOptions{Rule: "s", Functions: strings.Split(functions, ","), Columns: []string{"x"}, TimeIndex: true}
				want, _ := resampled(t, ordered, o)
				got, _ := resampled(t, engine, o)
				o.Source, o.Target, o.TimeColumn, o.Mode = named("in"), named("out"), "t", tables.PutReplace
				again, _ := read(t, engine, o)
				if got != want || again != want || len(want) == 0 {
					t.Errorf("%s, %s: %d and %d bytes of rows, want %d", name, functions, len(got), len(again), len(want))
				}
				if name == "second" { // which is in order, with equal times
					continue
				}
				if _, err := transform.Resample(t.Context(), plain, &o); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%s: not by SQL: %v", name, err)
				}
				if _, err := transform.Resampled(t.Context(), plain, &o); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%s: read not by SQL: %v", name, err)
				}
			}
		}
	}
}

// A bin with more values than are kept, after bins that would have been handed on, is SQL's, and
// so are more bins than Resampled holds.
func TestResampleBounds(t *testing.T) {
	const early, many = 20_000, 2<<20 + 20_001
	equal := map[int]int{}
	for i := early; i < many; i++ {
		equal[i] = early
	}
	for name, c := range map[string]struct {
		batch           arrow.RecordBatch
		functions, last string
	}{
		"values": {ticks(many, equal), "median", `{"t":"1970-01-01T05:33:20","x":1068576}`}, // of 20,000 to many - 1
		"bins":   {ticks(2, map[int]int{1: 200_000}), "mean,sum,min,max,first,last,count,prod,ohlc", `"x_sum":1}`},
	} {
		engine, plain := newStore(t), withoutSQL(t)
		o := transform.ResampleOptions{Rule: "s", Functions: strings.Split(c.functions, ",")}
		for _, s := range []*tables.Store{engine, plain} {
			if name == "values" { // in order by the settings, too
				inTime(t, s, c.batch)
			} else {
				put(t, s, "in", tables.PutReplace, c.batch)
			}
		}
		want, _ := resampled(t, engine, o)
		if !strings.HasSuffix(want, c.last) {
			t.Errorf("%s: %s", name, want[len(want)-200:])
		}
		o.Source, o.Target, o.TimeColumn, o.Mode, o.TimeIndex = named("in"), named("out"), "t", tables.PutReplace, true
		if got, _ := read(t, engine, o); got != want {
			t.Errorf("%s: %d and %d bytes of rows", name, len(got), len(want))
		}
		if _, err := transform.Resample(t.Context(), plain, &o); name == "values" && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: not by SQL: %v", name, err)
		}
		if _, err := transform.Resampled(t.Context(), plain, &o); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: read not by SQL: %v", name, err)
		}
	}
}
