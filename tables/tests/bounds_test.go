package tables_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestEmptyPartitionBounds checks the bounds of partition values in manifest lists. Readers take a missing lower bound
// for "all values are null", and do not read the manifest. So the empty text and no bytes are bounds, and a column of
// nulls or NaN has none.
func TestEmptyPartitionBounds(t *testing.T) {
	for i, c := range []struct {
		typ    iceberg.Type
		arrow  arrow.DataType
		rows   string // JSON
		bounds string // of each manifest
	}{
		{iceberg.StringType{}, arrow.BinaryTypes.String, `[{"k":"a"},{"k":""},{"k":"b"}]`, `"" to "b"`},
		{iceberg.StringType{}, arrow.BinaryTypes.String, `[{"k":""}]`, `"" to ""`},
		{iceberg.StringType{}, arrow.BinaryTypes.String, `[{"k":""},{"k":null}]`, `"" to ""`},
		{iceberg.StringType{}, arrow.BinaryTypes.String, `[{"k":null}]`, "none"},
		{iceberg.StringType{}, arrow.BinaryTypes.String, `[{"k":"\udbff\udfff"}]`, `"\U0010ffff" to "\U0010ffff"`},
		{iceberg.BinaryType{}, arrow.BinaryTypes.Binary, `[{"k":""},{"k":"eA=="}]`, `"" to "x"`},
		{iceberg.BinaryType{}, arrow.BinaryTypes.Binary, `[{"k":""}]`, `"" to ""`},
		{iceberg.BinaryType{}, arrow.BinaryTypes.Binary, `[{"k":""},{"k":null}]`, `"" to ""`},
		{iceberg.FixedTypeOf(2), &arrow.FixedSizeBinaryType{ByteWidth: 2}, `[{"k":"AAA="}]`, `"\x00\x00" to "\x00\x00"`},
		{iceberg.Float64Type{}, arrow.PrimitiveTypes.Float64, `[{"k":"NaN"},{"k":null}]`, "none"},
		{iceberg.Float32Type{}, arrow.PrimitiveTypes.Float32, `[{"k":"NaN"},{"k":1},{"k":null}]`, `"\x00\x00\x80?" to "\x00\x00\x80?"`},
		{iceberg.Int64Type{}, arrow.PrimitiveTypes.Int64, `[{"k":null}]`, "none"},
		{iceberg.Int32Type{}, arrow.PrimitiveTypes.Int32, `[{"k":0}]`, `"\x00\x00\x00\x00" to "\x00\x00\x00\x00"`},
		{iceberg.BooleanType{}, arrow.FixedWidthTypes.Boolean, `[{"k":false}]`, `"\x00" to "\x00"`},
	} {
		s := partitioned(t, c.typ, c.arrow, c.rows)
		if got := manifestBounds(t, s); got != c.bounds {
			t.Errorf("case %d: %s has the bounds %s, want %s", i, c.rows, got, c.bounds)
		}
	}
}

// TestColumnBounds checks the bounds in the manifests of a partitioned table, of another column than the partition's.
// No bound, which readers take for "unknown", is below the smallest or above the largest value. Readers sort NaN in
// different places, so a column with NaN has none.
func TestColumnBounds(t *testing.T) {
	for i, c := range []struct {
		typ    iceberg.Type
		arrow  arrow.DataType
		values string // JSON
		bounds string // "?": none
	}{
		{iceberg.StringType{}, arrow.BinaryTypes.String, `["", "b", null]`, `? to "b"`},
		{iceberg.StringType{}, arrow.BinaryTypes.String, `["b", "` + strings.Repeat("\\udbff\\udfff", 17) + `"]`, `"b" to ?`},
		{iceberg.StringType{}, arrow.BinaryTypes.String, `["b", "abcdefghijklmno\ud7ff2"]`, `"abcdefghijklmno\ud7ff" to "b"`},
		{iceberg.StringType{}, arrow.BinaryTypes.String, `["a", "abcdefghijklmno\ud7ff2"]`, `"a" to "abcdefghijklmno\ue000"`},
		{iceberg.BinaryType{}, arrow.BinaryTypes.Binary, `["", "eA=="]`, `? to "x"`},
		{iceberg.BinaryType{}, arrow.BinaryTypes.Binary, `["eA==", "` + strings.Repeat("////", 6) + `"]`, `"x" to ?`},
		{iceberg.FixedTypeOf(2), &arrow.FixedSizeBinaryType{ByteWidth: 2}, `["AAA="]`, `"\x00\x00" to "\x00\x00"`},
		{iceberg.Float32Type{}, arrow.PrimitiveTypes.Float32, `[-0.0, 1]`, `"\x00\x00\x00\x80" to "\x00\x00\x80?"`},
		{iceberg.Float32Type{}, arrow.PrimitiveTypes.Float32, `[1, "NaN", 2]`, "? to ?"},
		{iceberg.Float64Type{}, arrow.PrimitiveTypes.Float64, `["NaN", null]`, "? to ?"},
		{iceberg.BooleanType{}, arrow.FixedWidthTypes.Boolean, `[false]`, `"\x00" to "\x00"`},
	} {
		var rows []string
		var values []json.RawMessage
		must.Do(t, json.Unmarshal([]byte(c.values), &values))
		for _, v := range values {
			rows = append(rows, fmt.Sprintf(`{"k": null, "x": %s}`, v))
		}
		s := partitioned(t, c.typ, c.arrow, "["+strings.Join(rows, ",")+"]")
		current := must.Get(partdiceberg.Load(t.Context(), s.Bucket("b").Table("t"), nil))(t)
		files, err := datafile.Files(t.Context(), current)
		if err != nil || len(files) != 1 {
			t.Fatalf("got files %v, error %v", files, err)
		}
		bound := func(of map[int][]byte) string {
			if b, ok := of[2]; ok {
				return fmt.Sprintf("%q", b)
			}
			return "?"
		}
		if got := bound(files[0].LowerBoundValues()) + " to " + bound(files[0].UpperBoundValues()); got != c.bounds {
			t.Errorf("case %d: %s has the bounds %s, want %s", i, c.values, got, c.bounds)
		}
	}
}

// partitioned returns a store with the table b.t, whose columns k and x are of a type. The rows are partitioned by k.
func partitioned(t *testing.T, typ iceberg.Type, arrowType arrow.DataType, text string) *tables.Store {
	t.Helper()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	spec := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "p", Transform: iceberg.IdentityTransform{}})
	key, value := iceberg.NestedField{ID: 1, Name: "k", Type: typ}, iceberg.NestedField{ID: 2, Name: "x", Type: typ}
	createPartitioned(t, s, "t", iceberg.NewSchema(0, key, value), &spec)
	columns := arrow.NewSchema([]arrow.Field{tabletest.Nullable("k", arrowType), tabletest.Nullable("x", arrowType)}, nil)
	rows, _, err := array.RecordFromJSON(memory.DefaultAllocator, columns, strings.NewReader(text))
	must.Do(t, err)
	tabletest.PutRows(t, s.Bucket("b"), "t", tabletest.OneBatch(rows), tables.PutAppend, nil)
	tabletest.Fold(t, s)
	return s
}

// createPartitioned creates a table in bucket b as another program would.
func createPartitioned(t *testing.T, s *tables.Store, name string, sc *iceberg.Schema, spec *iceberg.PartitionSpec) {
	t.Helper()
	meta := must.Get(partdiceberg.NewMetadata(s, sc, spec, table.UnsortedSortOrder, nil))(t)
	must.Get(partdiceberg.Commit(t.Context(), s, partdiceberg.Change{Bucket: "b", Table: name, New: meta}))(t)
}

// manifestBounds returns the bounds of the partition values in the manifests of b.t.
func manifestBounds(t *testing.T, s *tables.Store) string {
	t.Helper()
	var bounds []string
	current := must.Get(partdiceberg.Load(t.Context(), s.Bucket("b").Table("t"), nil))(t)
	fileIO := must.Get(current.FS(t.Context()))(t)
	manifests := must.Get(current.CurrentSnapshot().Manifests(fileIO))(t)
	for _, m := range manifests {
		for _, p := range m.Partitions() {
			if p.LowerBound == nil || p.UpperBound == nil {
				bounds = append(bounds, "none")
			} else {
				bounds = append(bounds, fmt.Sprintf("%q to %q", *p.LowerBound, *p.UpperBound))
			}
		}
	}
	return strings.Join(bounds, ", ")
}

// TestNaNCounts checks the NaN counts in the manifests after each operation that writes files. A column
// that contains NaN must have no bounds, even if only one row group contains NaN. A column of only NaN has no count,
// because Iceberg's Java library would skip the file for x > 1, which in Spark is true for NaN.
func TestNaNCounts(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	fields := tabletest.ParseColumns(t, "f float64; g float32; n int64").Fields()
	nested := tabletest.Nullable("s", arrow.StructOf(fields[0]))
	columns := arrow.NewSchema([]arrow.Field{fields[0], fields[1], nested, fields[2]}, nil)
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
		tabletest.PutRows(t, s.Bucket("b"), "t", tabletest.OneBatch(b.NewRecordBatch()), mode, nil)
	}
	wantCounts := func(operation string, want ...int64) {
		t.Helper()
		cur := must.Get(partdiceberg.Load(t.Context(), s.Bucket("b").Table("t"), nil))(t)
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
			wantCounts := map[int]int64{id("f"): want[i], id("g"): 0, id("s.f"): want[i]}
			maps.DeleteFunc(wantCounts, func(_ int, n int64) bool { return n == f.Count() })
			if got := f.NaNValueCounts(); !maps.Equal(got, wantCounts) {
				t.Errorf("%s: file %d: NaN counts by field ID are %v, want %v", operation, i, got, wantCounts)
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
