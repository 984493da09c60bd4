package transform_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/transform"
)

// putByTime puts rows into a table with a time column in its settings. Each batch gets its own file, except the
// last one, which stays in the tail (rows not yet in data files).
func putByTime(t testing.TB, s *tables.Store, batches ...arrow.RecordBatch) {
	t.Helper()
	m := tables.PutReplace
	for i, b := range batches {
		putWith(t, s, "in", m, byTime, b)
		if i+1 < len(batches) {
			must.Get(s.Fold(t.Context(), nil))(t)
		}
		m = tables.PutAppend
	}
}

// almostEqual reports whether rows are equal except for rounding errors.
func almostEqual(t *testing.T, a, b string) bool {
	t.Helper()
	var rows [2][]map[string]any
	for i, text := range []string{a, b} {
		must.Do(t, json.Unmarshal([]byte("["+text+"]"), &rows[i]))
	}
	return slices.EqualFunc(rows[0], rows[1], func(a, b map[string]any) bool {
		return maps.EqualFunc(a, b, func(a, b any) bool {
			x, isFloat := a.(float64)
			y, areFloats := b.(float64)
			return a == b || isFloat && areFloats && math.Abs(x-y) <= 1e-9*max(math.Abs(x), 1e-3)
		})
	})
}

// TestResampleInOrderLikeSQL checks that resampling in time order, without SQL, has the same results as resampling by
// SQL, for random rules, zones, units and functions. The seed and the number of rounds come from the same environment
// variables as for TestResampleLikePandas.
func TestResampleInOrderLikeSQL(t *testing.T) {
	seed, rounds := seedAndRounds(t)
	rounds *= 20
	random := rand.New(rand.NewPCG(seed, 1))
	engine, noSQL, noTimeColumn := newStore(t), withoutSQL(t), withoutSQL(t)
	names := slices.Sorted(maps.Keys(binLengths))
	for range rounds {
		rule := names[random.IntN(len(names))]
		step, zone, unit := binLengths[rule], zones[random.IntN(len(zones))], arrow.TimeUnit(random.IntN(4))
		if step < time.Second {
			unit = arrow.Nanosecond
		}
		batch := randomSeries(random, zone, unit, step)
		hasTime := make([]bool, batch.NumRows())
		for i := range hasTime {
			hasTime[i] = batch.Column(0).IsValid(i)
		}
		batch = must.Get(take.Where(batch, hasTime))(t)
		if batch.NumRows() == 0 {
			continue
		}
		functions, columns := []string{"count", "size", "first", "last", "min", "max"}, []string{"f", "i", "b", "s"}
		switch random.IntN(5) {
		case 4:
			functions, columns = []string{"nunique", "median"}, columns[:2]
			functions = functions[random.IntN(2):]
		case 3:
			functions, columns = []string{"count", "sum", "mean"}, columns[:2]
		case 0:
			functions, columns = append(functions, "mean", "sum", "std", "var", "sem", "prod", "ohlc", "median", "nunique"), columns[:2]
		case 1:
			columns = append(columns, "t")
		}
		put(t, engine, "in", tables.PutReplace, batch)
		n := batch.NumRows()
		putByTime(t, noSQL, batch.NewSlice(0, n/3), batch.NewSlice(n/3, n/2), batch.NewSlice(n/2, n))
		o := transform.ResampleOptions{Rule: rule, Functions: functions, Columns: columns}
		want, wantTypes := resample(t, engine, o)
		got, types := resample(t, noSQL, o)
		if types != wantTypes || !almostEqual(t, got, want) {
			t.Fatalf("rule %s, zone %q, %v, %v of %v: got %s\n%s\nwant %s\n%s", rule, zone, unit, functions, columns, types, got, wantTypes, want)
		}
		// The same ordered rows, without a time column in the settings.
		_, ordered := scan(t, noSQL, "in")
		m := tables.PutReplace
		for _, b := range ordered {
			put(t, noTimeColumn, "in", m, b)
			m = tables.PutAppend
		}
		if reread, types := resample(t, noTimeColumn, o); reread != got || types != wantTypes {
			t.Fatalf("without a time column in the settings: rule %s, zone %q, %v, %v of %v: got %s\n%s\nwant %s\n%s", rule, zone, unit, functions, columns, types, reread, wantTypes, got)
		}
		o.Source, o.TimeColumn, o.TimeIndex = tableName("in"), "t", true
		if reread, _ := readResampled(t, noTimeColumn, o); reread != got {
			t.Fatalf("Resampled(): rule %s, zone %q, %v, %v of %v: got\n%s\nwant\n%s", rule, zone, unit, functions, columns, reread, got)
		}
	}
}

// TestResampleInOrderLimits checks that SQL resamples if clocks were set back across midnight, because
// days are then not in order, and if a column has ordered categories. It also checks that a sum that
// overflows its type is an error that names the column.
func TestResampleInOrderLimits(t *testing.T) {
	engine, noSQL := newStore(t), withoutSQL(t)
	x := arrow.Field{Name: "x", Type: integer}
	// In this zone, 00:01 on the 29th was followed by 23:01 on the 28th.
	setBack := rows(t, `[{"t":"2006-10-29 02:00:00Z","x":1},{"t":"2006-10-29 02:30:30Z","x":2},{"t":"2006-10-29 02:40:00Z","x":4},{"t":"2006-10-29 05:00:00Z","x":8}]`, timeField(arrow.Microsecond, "America/St_Johns"), x)
	o := transform.ResampleOptions{Rule: "D", Functions: []string{"sum", "size"}}
	put(t, engine, "in", tables.PutReplace, setBack)
	want, _ := resample(t, engine, o)
	putByTime(t, engine, setBack)
	if got, _ := resample(t, engine, o); got != want || strings.Count(want, "size") != 2 {
		t.Errorf("days that are not in order: got %s\nwant %s, with two bins", got, want)
	}
	o.Source, o.Target, o.TimeColumn, o.Mode = tableName("in"), tableName("out"), "t", tables.PutReplace
	putByTime(t, noSQL, setBack)
	must.Fail(t, must.Err(transform.Resample(t.Context(), noSQL, &o)), errors.ErrUnsupported, "Resample() without SQL")
	putByTime(t, noSQL, rows(t, `[{"t":"2026-01-01","x":9223372036854775807},{"t":"2026-01-02","x":9223372036854775807},{"t":"2026-01-02","x":1}]`, timeField(arrow.Second, ""), x))
	if _, err := transform.Resample(t.Context(), noSQL, &o); err == nil || !strings.Contains(err.Error(), `column "x": the sum of a bin's values overflows int64`) {
		t.Errorf("Resample() of an overflowing sum: error = %v, want an error that names the column", err)
	}
	must.Get(engine.Bucket("").Table("in").Put(t.Context(), categories(t, 0, "low high", 1, 0), tables.PutReplace, &tables.PutOptions{Settings: &tables.Settings{Time: "t"}}))(t)
	o.Functions = []string{"max"}
	if got, _ := resample(t, engine, o); got != `{"c":"high","t":"1970-01-01T00:00:00"}` {
		t.Errorf("the maximum of ordered categories is %s, want high", got)
	}
	o.Functions = []string{"mean"}
	if got, _ := resample(t, noSQL, o); got != `{"t":"2026-01-01T00:00:00","x":9223372036854776000},{"t":"2026-01-02T00:00:00","x":4611686018427388000}` {
		t.Errorf("the means of large integers are %s, want 9223372036854776000 and 4611686018427388000", got)
	}
}

// TestResampleMemory checks that a table several times larger than the memory limit, in overlapping files,
// is resampled within about this limit.
func TestResampleMemory(t *testing.T) {
	const limit, files, rowsPerFile = 32 << 20, 12, 400_000
	s := must.Get(tables.Open(t.Context(), t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true, Memory: limit}))(t)
	defer s.Close() //nolint:errcheck // the store is discarded
	schema := arrow.NewSchema([]arrow.Field{timeField(arrow.Microsecond, ""), {Name: "x", Type: integer}, {Name: "s", Type: arrow.BinaryTypes.String}}, nil)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range files {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for j := range rowsPerFile {
			b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp((i*rowsPerFile*3/4 + j) * 1e6)) // a quarter overlaps
			b.Field(1).(*array.Int64Builder).Append(1)
			b.Field(2).(*array.StringBuilder).Append(fmt.Sprintf("%016x", random.Uint64()))
		}
		putWith(t, s, "in", tables.PutAppend, byTime, b.NewRecordBatch())
	}
	peak := procs.TrackPeak(20*time.Millisecond, heapBytes)
	o := transform.ResampleOptions{Source: tableName("in"), Target: tableName("out"), TimeColumn: "t", Rule: "h", Functions: []string{"sum", "last", "median", "size"}, Columns: []string{"x"}, Mode: tables.PutReplace}
	result, err := transform.Resample(t.Context(), s, &o)
	if err != nil || result.SourceRows != files*rowsPerFile {
		t.Errorf("Resample() = %+v, %v; want %d source rows", result, err, files*rowsPerFile)
	}
	o.Columns, o.Functions = []string{"s"}, []string{"last"}
	must.Check(t, must.Err(transform.Resample(t.Context(), s, &o)))
	growth := peak()
	t.Logf("used at most %d MiB for rows of %d MiB", growth>>20, files*rowsPerFile*32>>20)
	if growth > limit*3/2 {
		t.Errorf("Resample() used %d MiB, want at most 1.5 times the limit of %d MiB", growth>>20, limit>>20)
	}
}

func heapBytes() int64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	runtime.GC()
	metrics.Read(live)
	return int64(live[0].Value.Uint64())
}

// TestResampleInOrder checks that a table with a time column is resampled without SQL, with the same result
// as with SQL, with many rows in several batches: with gaps of many bins, nulls, NaNs, and rows in the tail (not yet in
// data files).
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
}
