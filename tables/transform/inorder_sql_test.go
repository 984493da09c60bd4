package transform_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/take"
	"github.com/go-partd/partd/tables/transform"
)

// putByTime puts rows into a table with a time column: overlapping files, and a tail for the last batch.
func putByTime(t testing.TB, s *tables.Store, batches ...arrow.RecordBatch) {
	t.Helper()
	m := tables.PutReplace
	for i, b := range batches {
		r, err := array.NewRecordReader(b.Schema(), []arrow.RecordBatch{b})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Bucket("").Put(t.Context(), "in", r, m, &tables.PutOptions{Settings: &tables.Settings{Time: "t"}}); err != nil {
			t.Fatal(err)
		}
		if i+1 < len(batches) {
			if _, err := s.Fold(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		m = tables.PutAppend
	}
}

// almostEqual reports whether rows are equal except for rounding errors.
func almostEqual(t *testing.T, a, b string) bool {
	t.Helper()
	var rows [2][]map[string]any
	for i, text := range []string{a, b} {
		if err := json.Unmarshal([]byte("["+text+"]"), &rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	return slices.EqualFunc(rows[0], rows[1], func(a, b map[string]any) bool {
		return maps.EqualFunc(a, b, func(a, b any) bool {
			x, isFloat := a.(float64)
			y, areFloats := b.(float64)
			return a == b || isFloat && areFloats && math.Abs(x-y) <= 1e-9*max(math.Abs(x), 1e-3)
		})
	})
}

// In-order resampling and SQL agree for every rule, zone, unit and function. The seed and the rounds are set
// as for TestResampleLikePandas.
func TestResampleInOrderLikeSQL(t *testing.T) {
	seed, rounds := uint64(time.Now().UnixNano()), 40
	if n, err := strconv.ParseUint(os.Getenv("PARTD_RESAMPLE_SEED"), 10, 64); err == nil {
		seed = n
	}
	if n, err := strconv.Atoi(os.Getenv("PARTD_RESAMPLE_ROUNDS")); err == nil {
		rounds *= n
	}
	t.Logf("PARTD_RESAMPLE_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	engine, plain, unset := newStore(t), withoutSQL(t), withoutSQL(t)
	names := slices.Sorted(maps.Keys(rules))
	for range rounds {
		rule := names[random.IntN(len(names))]
		step, zone, unit := rules[rule], zones[random.IntN(len(zones))], arrow.TimeUnit(random.IntN(4))
		if step < time.Second {
			unit = arrow.Nanosecond
		}
		batch := series(random, zone, unit, step)
		hasTime := make([]bool, batch.NumRows())
		for i := range hasTime {
			hasTime[i] = batch.Column(0).IsValid(i)
		}
		batch, err := take.Where(batch, hasTime)
		if err != nil {
			t.Fatal(err)
		}
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
		putByTime(t, plain, batch.NewSlice(0, n/3), batch.NewSlice(n/3, n/2), batch.NewSlice(n/2, n))
		o := transform.ResampleOptions{Rule: rule, Functions: functions, Columns: columns}
		want, wantTypes := resample(t, engine, o)
		got, types := resample(t, plain, o)
		if types != wantTypes || !almostEqual(t, got, want) {
			t.Fatalf("%s of %s %v %v %v: %s\n%s\nwant %s\n%s", rule, zone, unit, functions, columns, types, got, wantTypes, want)
		}
		// The same ordered rows, without a time column in the settings.
		_, ordered := scan(t, plain, "in")
		m := tables.PutReplace
		for _, b := range ordered {
			put(t, unset, "in", m, b)
			m = tables.PutAppend
		}
		if again, types := resample(t, unset, o); again != got || types != wantTypes {
			t.Fatalf("%s of %s %v %v %v: %s\n%s\nwant %s\n%s", rule, zone, unit, functions, columns, types, again, wantTypes, got)
		}
		o.Source, o.TimeColumn, o.TimeIndex = tableName("in"), "t", true
		if again, _ := read(t, unset, o); again != got {
			t.Fatalf("%s of %s %v %v %v: read\n%s\nwant\n%s", rule, zone, unit, functions, columns, again, got)
		}
	}
}

// SQL resamples if clocks were set back across midnight, because days are then not in order. It also handles
// ordered categories. A sum that overflows its type is an error that names the column.
func TestResampleInOrderLimits(t *testing.T) {
	engine, plain := newStore(t), withoutSQL(t)
	x := arrow.Field{Name: "x", Type: integer}
	// 00:01 of the 29th was followed by 23:01 of the 28th.
	back := rows(t, `[{"t":"2006-10-29 02:00:00Z","x":1},{"t":"2006-10-29 02:30:30Z","x":2},{"t":"2006-10-29 02:40:00Z","x":4},{"t":"2006-10-29 05:00:00Z","x":8}]`, timeField(arrow.Microsecond, "America/St_Johns"), x)
	o := transform.ResampleOptions{Rule: "D", Functions: []string{"sum", "size"}}
	put(t, engine, "in", tables.PutReplace, back)
	want, _ := resample(t, engine, o)
	putByTime(t, engine, back)
	if got, _ := resample(t, engine, o); got != want || strings.Count(want, "size") != 2 {
		t.Errorf("%s\nwant %s", got, want)
	}
	o.Source, o.Target, o.TimeColumn, o.Mode = tableName("in"), tableName("out"), "t", tables.PutReplace
	putByTime(t, plain, back)
	if _, err := transform.Resample(t.Context(), plain, &o); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	putByTime(t, plain, rows(t, `[{"t":"2026-01-01","x":9223372036854775807},{"t":"2026-01-02","x":9223372036854775807},{"t":"2026-01-02","x":1}]`, timeField(arrow.Second, ""), x))
	if _, err := transform.Resample(t.Context(), plain, &o); err == nil || !strings.Contains(err.Error(), `column "x": the sum of a bin's values overflows int64`) {
		t.Error(err)
	}
	if _, err := engine.Bucket("").Put(t.Context(), "in", categories(t, 0, "low high", 1, 0), tables.PutReplace, &tables.PutOptions{Settings: &tables.Settings{Time: "t"}}); err != nil {
		t.Fatal(err)
	}
	o.Functions = []string{"max"}
	if got, _ := resample(t, engine, o); got != `{"c":"high","t":"1970-01-01T00:00:00"}` {
		t.Error(got)
	}
	o.Functions = []string{"mean"}
	if got, _ := resample(t, plain, o); got != `{"t":"2026-01-01T00:00:00","x":9223372036854776000},{"t":"2026-01-02T00:00:00","x":4611686018427388000}` {
		t.Error(got)
	}
}

// A table several times larger than the memory limit, in overlapping files, is resampled within about that
// limit.
func TestResampleMemory(t *testing.T) {
	const limit, files, rowsPerFile = 32 << 20, 12, 400_000
	s, err := tables.Open(t.Context(), t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true, Memory: limit})
	if err != nil {
		t.Fatal(err)
	}
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
		r, err := array.NewRecordReader(schema, []arrow.RecordBatch{b.NewRecordBatch()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Bucket("").Put(t.Context(), "in", r, tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Time: "t"}}); err != nil {
			t.Fatal(err)
		}
	}
	peak := peakOf(heap)
	o := transform.ResampleOptions{Source: tableName("in"), Target: tableName("out"), TimeColumn: "t", Rule: "h", Functions: []string{"sum", "last", "median", "size"}, Columns: []string{"x"}, Mode: tables.PutReplace}
	result, err := transform.Resample(t.Context(), s, &o)
	if err != nil || result.SourceRows != files*rowsPerFile {
		t.Error(result, err)
	}
	o.Columns, o.Functions = []string{"s"}, []string{"last"}
	if _, err := transform.Resample(t.Context(), s, &o); err != nil {
		t.Error(err)
	}
	used := peak()
	t.Logf("at most %d MiB used for rows of %d MiB", used>>20, files*rowsPerFile*32>>20)
	if used > limit*3/2 {
		t.Errorf("%d MiB used, with a limit of %d MiB", used>>20, limit>>20)
	}
}

// heap returns the bytes of live objects on the heap.
func heap() int64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	runtime.GC()
	metrics.Read(live)
	return int64(live[0].Value.Uint64())
}

// peakOf starts to measure memory growth. The returned function stops measuring and returns the peak.
func peakOf(usage func() int64) func() int64 {
	start, peak := usage(), int64(0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				peak = max(peak, usage()-start)
			}
		}
	}()
	return func() int64 {
		close(stop)
		<-stopped
		return peak
	}
}
