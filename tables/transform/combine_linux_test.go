package transform_test

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/race"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/transform"
)

// A union of tables that are many times as large as the memory passes through it: neither the
// engine, which may not write what it has no room for, nor what puts its rows keeps them.
func TestUnionStreams(t *testing.T) {
	const most, sources, each, wide = 32 << 20, 3, 500_000, 400
	engine, err := duck.New(&duck.Options{Memory: most, MaxTemp: 1, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close() //nolint:errcheck // nothing is lost
	s, err := tables.Open(t.Context(), t.TempDir(), &tables.Options{Engine: engine, FoldAge: -1, NoTail: true, Memory: most})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // nothing is lost
	needSQL(t, s)
	o := &transform.CombineOptions{How: "union", Target: named("out")}
	for i := range sources {
		kind := []arrow.DataType{integer, arrow.PrimitiveTypes.Float64}[i%2]
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: kind}, {Name: "s", Type: arrow.BinaryTypes.String}}, nil)
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for j := range each {
			switch x := b.Field(0).(type) {
			case *array.Int64Builder:
				x.Append(int64(j))
			case *array.Float64Builder:
				x.Append(float64(j))
			}
			b.Field(1).(*array.StringBuilder).Append(strings.Repeat("abcdefgh"[j%8:j%8+1], wide))
		}
		o.Sources = append(o.Sources, named(fmt.Sprint("in", i)))
		put(t, s, o.Sources[i].Name, tables.PutReplace, b.NewRecordBatch())
	}
	debug.FreeOSMemory()
	peak := peakOf(resident)
	done, err := transform.Combine(t.Context(), s, o)
	held := peak()
	if err != nil || done.TargetRows != sources*each {
		t.Fatal(done, err)
	}
	t.Logf("%d MiB at most, of rows with %d", held>>20, sources*each*wide>>20)
	if held > 12*most && !race.On { // the race detector takes memory, too
		t.Errorf("%d MiB were held at a time", held>>20)
	}
}

// resident is the memory that the process has.
func resident() (n int64) {
	b, _ := os.ReadFile("/proc/self/statm")
	_, _ = fmt.Sscan(string(b), new(int64), &n)
	return n * int64(os.Getpagesize())
}
