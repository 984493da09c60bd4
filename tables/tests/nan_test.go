package tables_test

import (
	"maps"
	"math"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestNaNCounts checks the NaN counts in the manifests after each operation that writes files. A column
// that contains NaN must have no bounds, even if only one row group contains NaN.
func TestNaNCounts(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	floatField := arrow.Field{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true}
	columns := arrow.NewSchema([]arrow.Field{
		floatField,
		{Name: "g", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
		{Name: "s", Type: arrow.StructOf(floatField), Nullable: true},
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
	put := func(mode tables.PutMode, rows, nans int) {
		t.Helper()
		b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		for i := range rows {
			v := float64(i)
			if i >= rows-nans {
				v = math.NaN()
			}
			b.Field(0).(*array.Float64Builder).Append(v)
			b.Field(1).(*array.Float32Builder).Append(float32(i))
			nested := b.Field(2).(*array.StructBuilder)
			nested.Append(true)
			nested.FieldBuilder(0).(*array.Float64Builder).Append(v)
			b.Field(3).(*array.Int64Builder).Append(int64(i))
		}
		r := must.Get(array.NewRecordReader(columns, []arrow.RecordBatch{b.NewRecordBatch()}))(t)
		tabletest.PutRows(t, s.Bucket("b"), "t", r, mode, nil)
	}
	wantCounts := func(operation string, want ...int64) {
		t.Helper()
		cur := must.Get(iceberg.Load(t.Context(), s.Bucket("b").Table("t"), nil))(t)
		files, err := datafile.Files(t.Context(), cur)
		if err != nil || len(files) != len(want) {
			t.Fatalf("%s: got %d files, want %d; error: %v", operation, len(files), len(want), err)
		}
		id := func(name string) int {
			f, ok := cur.Schema().FindFieldByName(name)
			if !ok {
				t.Fatalf("the schema has no field %q", name)
			}
			return f.ID
		}
		for i, f := range files {
			if got := f.NaNValueCounts(); !maps.Equal(got, map[int]int64{id("f"): want[i], id("g"): 0, id("s.f"): want[i]}) {
				t.Errorf("%s: file %d: NaN counts by field ID are %v, want %d for f and s.f, and 0 for g", operation, i, got, want[i])
			}
			for _, name := range []string{"f", "g", "s.f", "n"} {
				wantBounds := name != "s.f" && (want[i] == 0 || name != "f") // nested columns have counts but no bounds
				if low, up := f.LowerBoundValues()[id(name)], f.UpperBoundValues()[id(name)]; (low != nil) != wantBounds || (up != nil) != wantBounds {
					t.Errorf("%s: file %d: column %s has bounds %x and %x, want bounds: %v", operation, i, name, low, up, wantBounds)
				}
				if n, ok := f.NullValueCounts()[id(name)]; !ok || n != 0 {
					t.Errorf("%s: file %d: column %s has null count %d (present: %v), want 0", operation, i, name, n, ok)
				}
			}
		}
	}
	put(tables.PutReplace, 300_000, 3) // NaN in the last of three row groups
	wantCounts("put", 3)
	put(tables.PutAppend, 5, 0)
	tabletest.Fold(t, s)
	put(tables.PutAppend, 5, 2)
	tabletest.Fold(t, s)
	wantCounts("folded", 3, 0, 2)
	tabletest.Compact(t, s)
	wantCounts("compacted", 5)
	tabletest.DeleteRows(t, s.Bucket("b"), "t", "n < 299999")
	wantCounts("corrected", 1)
}
