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

// inTime puts rows into a table with a time column: in files that overlap, and a tail.
func inTime(t testing.TB, s *tables.Store, batches ...arrow.RecordBatch) {
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

// alike reports whether rows are equal but for the last bits of their numbers.
func alike(t *testing.T, a, b string) bool {
	t.Helper()
	var rows [2][]map[string]any
	for i, text := range []string{a, b} {
		if err := json.Unmarshal([]byte("["+text+"]"), &rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	return slices.EqualFunc(rows[0], rows[1], func(a, b map[string]any) bool {
		return maps.EqualFunc(a, b, func(a, b any) bool {
			x, ok := a.(float64)
			y, both := b.(float64)
			return a == b || ok && both && math.Abs(x-y) <= 1e-9*max(math.Abs(x), 1e-3)
		})
	})
}

// Every rule, zone, unit and function gives in order what SQL gives. Seeds and rounds are
// those of TestResampleLikePandas.
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
		timed := make([]bool, batch.NumRows())
		for i := range timed {
			timed[i] = batch.Column(0).IsValid(i)
		}
		batch, err := take.Where(batch, timed)
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
		inTime(t, plain, batch.NewSlice(0, n/3), batch.NewSlice(n/3, n/2), batch.NewSlice(n/2, n))
		o := transform.ResampleOptions{Rule: rule, Functions: functions, Columns: columns}
		want, wantTypes := resampled(t, engine, o)
		got, types := resampled(t, plain, o)
		if types != wantTypes || !alike(t, got, want) {
			t.Fatalf("%s of %s %v %v %v: %s\n%s\nwant %s\n%s", rule, zone, unit, functions, columns, types, got, wantTypes, want)
		}
		// The same rows in order, of which no settings tell.
		_, inOrder := scan(t, plain, "in")
		m := tables.PutReplace
		for _, b := range inOrder {
			put(t, unset, "in", m, b)
			m = tables.PutAppend
		}
		if again, types := resampled(t, unset, o); again != got || types != wantTypes {
			t.Fatalf("%s of %s %v %v %v: %s\n%s\nwant %s\n%s", rule, zone, unit, functions, columns, types, again, wantTypes, got)
		}
		o.Source, o.TimeColumn, o.TimeIndex = named("in"), "t", true
		if again, _ := read(t, unset, o); again != got {
			t.Fatalf("%s of %s %v %v %v: read\n%s\nwant\n%s", rule, zone, unit, functions, columns, again, got)
		}
	}
}

// Where clocks went back over midnight, days are not in order, and SQL resamples, as it does
// for the order of categories. A sum
// beyond its type is an error that names the column.
func TestResampleInOrderRefuses(t *testing.T) {
	engine, plain := newStore(t), withoutSQL(t)
	x := arrow.Field{Name: "x", Type: integer}
	// At 00:01 of the 29th, it was 23:01 of the 28th again.
	back := rows(t, `[{"t":"2006-10-29 02:00:00Z","x":1},{"t":"2006-10-29 02:30:30Z","x":2},{"t":"2006-10-29 02:40:00Z","x":4},{"t":"2006-10-29 05:00:00Z","x":8}]`, stamps(arrow.Microsecond, "America/St_Johns"), x)
	o := transform.ResampleOptions{Rule: "D", Functions: []string{"sum", "size"}}
	put(t, engine, "in", tables.PutReplace, back)
	want, _ := resampled(t, engine, o)
	inTime(t, engine, back)
	if got, _ := resampled(t, engine, o); got != want || strings.Count(want, "size") != 2 {
		t.Errorf("%s\nwant %s", got, want)
	}
	o.Source, o.Target, o.TimeColumn, o.Mode = named("in"), named("out"), "t", tables.PutReplace
	inTime(t, plain, back)
	if _, err := transform.Resample(t.Context(), plain, &o); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	inTime(t, plain, rows(t, `[{"t":"2026-01-01","x":9223372036854775807},{"t":"2026-01-02","x":9223372036854775807},{"t":"2026-01-02","x":1}]`, stamps(arrow.Second, ""), x))
	if _, err := transform.Resample(t.Context(), plain, &o); err == nil || !strings.Contains(err.Error(), `column "x": the sum of a bin's values is beyond int64`) {
		t.Error(err)
	}
	if _, err := engine.Bucket("").Put(t.Context(), "in", categories(t, 0, "low high", 1, 0), tables.PutReplace, &tables.PutOptions{Settings: &tables.Settings{Time: "t"}}); err != nil {
		t.Fatal(err)
	}
	o.Functions = []string{"max"}
	if got, _ := resampled(t, engine, o); got != `{"c":"high","t":"1970-01-01T00:00:00"}` {
		t.Error(got)
	}
	o.Functions = []string{"mean"}
	if got, _ := resampled(t, plain, o); got != `{"t":"2026-01-01T00:00:00","x":9223372036854776000},{"t":"2026-01-02T00:00:00","x":4611686018427388000}` {
		t.Error(got)
	}
}

// A table several times as large as the memory, of files that overlap, is resampled within
// about that.
func TestMemoryStays(t *testing.T) {
	const most, files, each = 32 << 20, 12, 400_000
	s, err := tables.Open(t.Context(), t.TempDir(), &tables.Options{FoldAge: -1, NoTail: true, Memory: most})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // nothing is lost
	schema := arrow.NewSchema([]arrow.Field{stamps(arrow.Microsecond, ""), {Name: "x", Type: integer}, {Name: "s", Type: arrow.BinaryTypes.String}}, nil)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range files {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for j := range each {
			b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp((i*each*3/4 + j) * 1e6)) // a quarter overlaps
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
	o := transform.ResampleOptions{Source: named("in"), Target: named("out"), TimeColumn: "t", Rule: "h", Functions: []string{"sum", "last", "median", "size"}, Columns: []string{"x"}, Mode: tables.PutReplace}
	done, err := transform.Resample(t.Context(), s, &o)
	if err != nil || done.SourceRows != files*each {
		t.Error(done, err)
	}
	o.Columns, o.Functions = []string{"s"}, []string{"last"}
	if _, err := transform.Resample(t.Context(), s, &o); err != nil {
		t.Error(err)
	}
	held := peak()
	t.Logf("%d MiB at most, of rows with %d", held>>20, files*each*32>>20)
	if held > most*3/2 {
		t.Errorf("%d MiB were held at a time, of %d", held>>20, most>>20)
	}
}

// heap is what the heap holds, without what was let go since the collector looked.
func heap() int64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	runtime.GC()
	metrics.Read(live)
	return int64(live[0].Value.Uint64())
}

// peakOf begins to look at how much is held beyond what is held now. It returns a function
// that ends this, and says how much that was at most.
func peakOf(held func() int64) func() int64 {
	before, most := held(), int64(0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				most = max(most, held()-before)
			}
		}
	}()
	return func() int64 {
		close(stop)
		<-stopped
		return most
	}
}
