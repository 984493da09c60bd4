package transform_test

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/transform"
)

// TestUnionStreams checks that Combine streams a union of tables that are many times larger than the memory
// limit: neither the engine, which cannot use temporary files here, nor the put may buffer all rows.
func TestUnionStreams(t *testing.T) {
	const limit, sources, rowsPerSource, textSize = 32 << 20, 3, 500_000, 400
	engine := must.Get(duck.New(&duck.Options{Memory: limit, MaxTemp: 1, TempDir: t.TempDir()}))(t)
	defer engine.Close() //nolint:errcheck // the store is discarded
	s := must.Get(tables.Open(t.Context(), t.TempDir(), &tables.Options{Engine: engine, FoldAge: -1, NoTail: true, Memory: limit}))(t)
	defer s.Close() //nolint:errcheck // the store is discarded
	needSQL(t, s)
	o := &transform.CombineOptions{How: "union", Target: tableName("out")}
	for i := range sources {
		xType := []arrow.DataType{integer, arrow.PrimitiveTypes.Float64}[i%2]
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: xType}, {Name: "s", Type: arrow.BinaryTypes.String}}, nil)
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for j := range rowsPerSource {
			switch x := b.Field(0).(type) {
			case *array.Int64Builder:
				x.Append(int64(j))
			case *array.Float64Builder:
				x.Append(float64(j))
			}
			b.Field(1).(*array.StringBuilder).Append(strings.Repeat("abcdefgh"[j%8:j%8+1], textSize))
		}
		o.Sources = append(o.Sources, tableName(fmt.Sprint("in", i)))
		put(t, s, o.Sources[i].Name, tables.PutReplace, b.NewRecordBatch())
	}
	debug.FreeOSMemory()
	peak := procs.TrackPeak(20*time.Millisecond, func() int64 {
		resident, _, err := procs.Memory(os.Getpid())
		must.Check(t, err)
		return resident
	})
	result, err := transform.Combine(t.Context(), s, o)
	growth := peak()
	if err != nil || result.TargetRows != sources*rowsPerSource {
		t.Fatalf("Combine() = %+v, %v; want %d target rows", result, err, sources*rowsPerSource)
	}
	t.Logf("used at most %d MiB for rows of %d MiB", growth>>20, sources*rowsPerSource*textSize>>20)
	if growth > 12*limit && !procs.RaceEnabled { // the race detector uses additional memory
		t.Errorf("Combine() used %d MiB, want at most %d MiB", growth>>20, 12*limit>>20)
	}
}
