package transform_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/transform"
)

// TestResampleInOrder checks that a table with a time column is resampled without SQL, with the same result
// as with SQL: with gaps, nulls, NaNs, several batches, and rows in the tail
// (not yet in data files).
func TestResampleInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, unit := range []arrow.TimeUnit{arrow.Nanosecond, arrow.Microsecond, arrow.Second} {
		schema := arrow.NewSchema([]arrow.Field{{Name: "t", Type: &arrow.TimestampType{Unit: unit}}, {Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true}}, nil)
		var all []arrow.RecordBatch
		second := int64(1e9 / unit.Multiplier())
		for range 3 {
			b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
			for range 5_000 {
				timestamp := -1e5*second + random.Int64N(3e5)*second
				if random.IntN(10) == 0 { // a gap of more bins than a batch contains
					timestamp = 3e5*second + random.Int64N(2e5)*second
				}
				b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(timestamp))
				switch x := b.Field(1).(*array.Float64Builder); random.IntN(8) {
				case 0:
					x.AppendNull()
				case 1:
					x.Append(math.NaN())
				default:
					x.Append(float64(random.IntN(1000)) / 4) // multiples of 1/4, so that sums are exact in any order
				}
			}
			all = append(all, b.NewRecordBatch())
		}
		engine, noSQL := newStore(t), withoutSQL(t)
		for _, s := range []*tables.Store{engine, noSQL} {
			for _, b := range all {
				putWith(t, s, "in", tables.PutAppend, map[*tables.Store]*tables.PutOptions{noSQL: byTime}[s], b)
			}
		}
		for _, rule := range []string{"7s", "90min"} {
			functions := []string{"mean", "sum", "min", "max", "count", "size"} // without first and last, which depend on the order of equal times
			o := transform.ResampleOptions{Rule: rule, Functions: functions}
			want, wantTypes := resample(t, engine, o)
			got, types := resample(t, noSQL, o)
			if got != want || types != wantTypes {
				t.Errorf("unit %v, rule %s: got other rows without SQL (%d bytes, types %s) than with SQL (%d bytes, types %s)", unit, rule, len(got), types, len(want), wantTypes)
			}
		}
	}
	s := withoutSQL(t)
	x := rows(t, `[{"t":"2026-01-01 00:00:03Z","x":2},{"t":"2026-01-01 00:00:01Z","x":null},{"t":"2026-01-01 00:00:02Z","x":9},{"t":"2026-01-01 00:00:29Z","x":-1},{"t":"2026-01-01 00:00:05Z","x":4}]`,
		timeField(arrow.Microsecond, "Europe/Berlin"), arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float64})
	putWith(t, s, "in", tables.PutAppend, byTime, x)
	got, _ := resample(t, s, transform.ResampleOptions{Rule: "10s", Functions: []string{"ohlc", "first", "last"}})
	want := `{"t":"2026-01-01T01:00:00+01:00","x_close":4,"x_first":9,"x_high":9,"x_last":4,"x_low":2,"x_open":9},` +
		`{"t":"2026-01-01T01:00:10+01:00","x_close":null,"x_first":null,"x_high":null,"x_last":null,"x_low":null,"x_open":null},` +
		`{"t":"2026-01-01T01:00:20+01:00","x_close":-1,"x_first":-1,"x_high":-1,"x_last":-1,"x_low":-1,"x_open":-1}`
	if got != want {
		t.Errorf("ohlc, first and last in a zone: got %s\nwant %s", got, want)
	}
}
