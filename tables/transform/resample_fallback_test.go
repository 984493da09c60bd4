package transform_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/transform"
)

// ticks returns n rows one second apart. Column x contains the row's number. times[i] overrides the
// time of row i, in seconds; -1 means null.
func ticks(n int, times map[int]int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "t", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true}, {Name: "x", Type: integer, Nullable: true},
	}, nil))
	defer b.Release()
	builder := b.Field(0).(*array.TimestampBuilder)
	for i := range n {
		second, hasOther := times[i]
		switch {
		case !hasOther:
			builder.Append(arrow.Timestamp(i * 1e6))
		case second < 0:
			builder.AppendNull()
		default:
			builder.Append(arrow.Timestamp(second * 1e6))
		}
		b.Field(1).(*array.Int64Builder).Append(int64(i))
	}
	return b.NewRecordBatch()
}

// TestResampleLateRow checks tables whose rows are out of order or have no time. Without a time column in
// the settings, SQL must resample from the beginning, even after many bins were complete. With a time
// column, the same rows must yield the same bins without SQL.
func TestResampleLateRow(t *testing.T) {
	const count = 20_000
	engine, noSQL, ordered := newStore(t), withoutSQL(t), withoutSQL(t)
	for name, times := range map[string]map[int]int{
		"last": {count - 1: 5}, "first": {0: count}, "second": {1: 0, 2: 0, 3: 1}, "null": {count / 2: -1}, "null first": {0: -1},
	} {
		batch := ticks(count, times)
		hasTime := make([]bool, count)
		for i := range hasTime {
			hasTime[i] = batch.Column(0).IsValid(i)
		}
		withTimes := must.Get(take.Where(batch, hasTime))(t)
		putByTime(t, ordered, withTimes)
		for _, split := range []int64{0, count} { // all in the tail, or all in a file
			for _, s := range []*tables.Store{engine, noSQL} {
				put(t, s, "in", tables.PutReplace, batch.NewSlice(0, split))
				put(t, s, "in", tables.PutAppend, batch.NewSlice(split, count))
			}
			for _, functions := range []string{"sum,first,last,size", "median"} {
				o := transform.ResampleOptions{Rule: "s", Functions: strings.Split(functions, ","), Columns: []string{"x"}, TimeIndex: true}
				want, _ := resample(t, ordered, o)
				got, _ := resample(t, engine, o)
				o.Source, o.Target, o.TimeColumn, o.Mode = tableName("in"), tableName("out"), "t", tables.PutReplace
				reread, _ := readResampled(t, engine, o)
				if got != want || reread != want || len(want) == 0 {
					t.Errorf("%s, %s: the rows of Resample (%d bytes) or Resampled (%d bytes) differ from the expected rows (%d bytes)", name, functions, len(got), len(reread), len(want))
				}
				if name == "second" { // already in order, with equal times
					continue
				}
				if _, err := transform.Resample(t.Context(), noSQL, &o); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%s: Resample() without SQL: error = %v, want %v", name, err, errors.ErrUnsupported)
				}
				if _, err := transform.Resampled(t.Context(), noSQL, &o); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%s: Resampled() without SQL: error = %v, want %v", name, err, errors.ErrUnsupported)
				}
			}
		}
	}
}

// TestResampleLimits checks that SQL resamples if a bin has more values than the limit, even after other
// bins were complete, and if Resampled would buffer too many bins.
func TestResampleLimits(t *testing.T) {
	const early, count = 20_000, 2<<20 + 20_001
	equal := map[int]int{}
	for i := early; i < count; i++ {
		equal[i] = early
	}
	for name, c := range map[string]struct {
		batch           arrow.RecordBatch
		functions, last string
	}{
		"values": {ticks(count, equal), "median", `{"t":"1970-01-01T05:33:20","x":1068576}`}, // the median of the numbers 20,000 to count-1
		"bins":   {ticks(2, map[int]int{1: 200_000}), "mean,sum,min,max,first,last,count,prod,ohlc", `"x_sum":1}`},
	} {
		engine, noSQL := newStore(t), withoutSQL(t)
		o := transform.ResampleOptions{Rule: "s", Functions: strings.Split(c.functions, ",")}
		for _, s := range []*tables.Store{engine, noSQL} {
			if name == "values" { // with a time column in the settings
				putByTime(t, s, c.batch)
			} else {
				put(t, s, "in", tables.PutReplace, c.batch)
			}
		}
		want, _ := resample(t, engine, o)
		if !strings.HasSuffix(want, c.last) {
			t.Errorf("%s: the rows end with %s, want %s", name, want[len(want)-200:], c.last)
		}
		o.Source, o.Target, o.TimeColumn, o.Mode, o.TimeIndex = tableName("in"), tableName("out"), "t", tables.PutReplace, true
		if got, _ := readResampled(t, engine, o); got != want {
			t.Errorf("%s: the rows of Resampled (%d bytes) differ from those of Resample (%d bytes)", name, len(got), len(want))
		}
		if _, err := transform.Resample(t.Context(), noSQL, &o); name == "values" && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: Resample() without SQL: error = %v, want %v", name, err, errors.ErrUnsupported)
		}
		if _, err := transform.Resampled(t.Context(), noSQL, &o); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: Resampled() without SQL: error = %v, want %v", name, err, errors.ErrUnsupported)
		}
	}
}

// TestResampleFarApart checks that times in nanoseconds whose difference overflows int64 fall into the same
// bins as times in microseconds, and that too many bins are an error.
func TestResampleFarApart(t *testing.T) {
	s := newStore(t)
	for zone, suffix := range map[string]string{"": "", "Europe/Berlin": "Z"} {
		for _, unit := range []arrow.TimeUnit{arrow.Microsecond, arrow.Nanosecond} {
			put(t, s, unit.String(), tables.PutReplace, rows(t, `[{"t":"2250-01-01 00:00:00`+suffix+`","x":2},{"t":"1700-01-01 00:00:00`+suffix+`","x":1}]`, timeField(unit, zone), arrow.Field{Name: "x", Type: integer}))
		}
		for _, rule := range []string{"240000h", "s", "36500D", "20YE", "500W", "10000B"} {
			for _, function := range []string{"nearest", "interpolate", "max"} {
				resampleUnit := func(unit arrow.TimeUnit) (string, error) {
					o := transform.ResampleOptions{Source: tableName(unit.String()), Target: tableName("out"), Rule: rule, TimeColumn: "t", Functions: []string{function}, Mode: tables.PutReplace}
					if _, err := transform.Resample(t.Context(), s, &o); err != nil {
						return "", err
					}
					text, _ := text(t, s, "out")
					return text, nil
				}
				want, err := resampleUnit(arrow.Microsecond)
				if (err != nil) != (rule == "s") || (want == "") != (rule == "s") {
					t.Errorf("rule %s, function %s, microseconds: rows %s, error %v; want an error only for rule s", rule, function, want, err)
				}
				got, err := resampleUnit(arrow.Nanosecond)
				if (err != nil && strings.Contains(err.Error(), "more than 1073741824 bins")) != (rule == "s") || got != want {
					t.Errorf("rule %s, zone %q, function %s, nanoseconds: error %v, rows %s\nwant %s", rule, zone, function, err, got, want)
				}
			}
		}
	}
}
