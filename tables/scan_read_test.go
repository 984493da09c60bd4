package tables_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func rowsOfJSON(t testing.TB, text string, fields ...arrow.Field) array.RecordReader {
	t.Helper()
	batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, arrow.NewSchema(fields, nil), strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return tabletest.OneBatch(batch)
}

// putJSON puts rows, and folds them into a separate file.
func putJSON(t testing.TB, b *tables.Bucket, name, text string, fields ...arrow.Field) {
	t.Helper()
	tabletest.PutRows(t, b, name, rowsOfJSON(t, text, fields...), tables.PutAppend, nil)
	tabletest.Fold(t, b.Store())
}

// scanJSON returns the rows of a scan, as JSON without spaces.
func scanJSON(t testing.TB, b *tables.Bucket, name string, o *tables.ScanOptions) string {
	t.Helper()
	table := b.Table(name)
	r, err := table.Scan(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	var out bytes.Buffer
	for r.Next() {
		text, err := r.RecordBatch().MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		out.Write(bytes.Trim(bytes.ReplaceAll(text, []byte("\n"), nil), "[]"))
		out.WriteByte(',')
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return strings.TrimSuffix(strings.NewReplacer(" ", "", "\t", "").Replace(out.String()), ",")
}

func wantEqual(t testing.TB, label, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant\n%s", label, got, want)
	}
}

// TestBoolsWithNullsStay is a regression test: an Arrow kernel turned boolean values into nulls, and DeleteRows wrote
// the nulls to files.
func TestBoolsWithNullsStay(t *testing.T) {
	t.Parallel()
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1}).Bucket("")
	putJSON(t, b, "t", `[{"id":1,"x":0,"b":null},{"id":2,"x":1,"b":true},{"id":3,"x":1,"b":false},{"id":4,"x":1,"b":true}]`,
		tabletest.Nullable("id", arrow.PrimitiveTypes.Int64), tabletest.Nullable("x", arrow.PrimitiveTypes.Int64), tabletest.Nullable("b", arrow.FixedWidthTypes.Boolean))
	wantEqual(t, "where b", scanJSON(t, b, "t", tabletest.Where(t, "b = true")), `{"b":true,"id":2,"x":1},{"b":true,"id":4,"x":1}`)
	tabletest.DeleteRows(t, b, "t", "id = 1")
	want := `{"b":true,"id":2,"x":1},{"b":false,"id":3,"x":1},{"b":true,"id":4,"x":1}`
	wantEqual(t, "after the delete", scanJSON(t, b, "t", nil), want)
	tabletest.DeleteRows(t, b, "t", "b = false")
	wantEqual(t, "after a delete by the boolean column", scanJSON(t, b, "t", tabletest.Where(t, "", "id")), `{"id":2},{"id":4}`)
}

// TestColumnsAfterNested is a regression test: columns after a struct, a list or a map were mistaken for other columns.
func TestColumnsAfterNested(t *testing.T) {
	t.Parallel()
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1}).Bucket("")
	x := tabletest.Nullable("x", arrow.PrimitiveTypes.Int32)
	fields := []arrow.Field{
		tabletest.Nullable("id", arrow.PrimitiveTypes.Int64), tabletest.Nullable("s", arrow.StructOf(x, tabletest.Nullable("y", arrow.BinaryTypes.String))),
		tabletest.Nullable("l", arrow.ListOf(arrow.StructOf(x))), tabletest.Nullable("m", arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int16)),
		tabletest.Nullable("a", arrow.PrimitiveTypes.Int64), tabletest.Nullable("b", arrow.BinaryTypes.String),
	}
	putJSON(t, b, "t", `[{"id":1,"s":{"x":7,"y":"p"},"l":[{"x":1},null],"m":[{"key":"k","value":2}],"a":1,"b":"u"},
{"id":2,"s":null,"l":null,"m":null,"a":2,"b":"v"},{"id":3,"s":{"x":null,"y":"q"},"l":[],"m":[],"a":3,"b":null}]`, fields...)
	first := `{"a":1,"b":"u","id":1,"l":[{"x":1},null],"m":[{"key":"k","value":2}],"s":{"x":7,"y":"p"}}`
	wantEqual(t, "a = 1", scanJSON(t, b, "t", tabletest.Where(t, "a = 1", "id", "b")), `{"b":"u","id":1}`)
	wantEqual(t, "a = 1, one column", scanJSON(t, b, "t", tabletest.Where(t, "a = 1", "id")), `{"id":1}`)
	wantEqual(t, "a whole row", scanJSON(t, b, "t", tabletest.Where(t, "b = 'u'")), first)
	wantEqual(t, "s is null", scanJSON(t, b, "t", tabletest.Where(t, "s is null", "b")), `{"b":"v"}`)
	tabletest.DeleteRows(t, b, "t", "b = 'v'")
	if _, err := b.Table("t").Upsert(t.Context(), rowsOfJSON(t, `[{"id":9,"a":3,"b":"w"},{"id":10,"a":4,"b":"z"}]`, fields[0], fields[4], fields[5]), &tables.UpsertOptions{Keys: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "after an upsert", scanJSON(t, b, "t", tabletest.Where(t, "", "id", "b", "l")), `{"b":"w","id":9,"l":null},{"b":"z","id":10,"l":null},{"b":"u","id":1,"l":[{"x":1},null]}`)
	wantEqual(t, "the first row", scanJSON(t, b, "t", tabletest.Where(t, "a = 1")), first)
}

// TestReadAfterEvolution checks that after columns were widened, renamed or added, rows in old files are read in the
// new columns, with every kind of scan, before and after a compaction.
func TestReadAfterEvolution(t *testing.T) {
	t.Parallel()
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1}).Bucket("")
	fields := []arrow.Field{
		tabletest.Nullable("n", arrow.PrimitiveTypes.Int32), tabletest.Nullable("f", arrow.PrimitiveTypes.Float32),
		tabletest.Nullable("d", &arrow.Decimal128Type{Precision: 5, Scale: 2}), tabletest.Nullable("t", arrow.BinaryTypes.String),
	}
	putJSON(t, b, "t", `[{"n":1,"f":0.5,"d":"1.25","t":"a"},{"n":-2,"f":null,"d":"-1.25","t":"b"},{"n":null,"f":3,"d":null,"t":"c"}]`, fields...)
	if err := b.Table("t").Evolve(t.Context(), tables.ColumnChange{Op: "widen", Column: "n", Type: "int64"}, tables.ColumnChange{Op: "widen", Column: "f", Type: "float64"},
		tables.ColumnChange{Op: "widen", Column: "d", Type: "decimal(20, 2)"}, tables.ColumnChange{Op: "rename", Column: "t", To: "s"}, tables.ColumnChange{Op: "add", Column: "x", Type: "int32"},
		tables.ColumnChange{Op: "add", Column: "y", Type: "utf8"}); err != nil {
		t.Fatal(err)
	}
	newFields := []arrow.Field{tabletest.Nullable("n", arrow.PrimitiveTypes.Int64), tabletest.Nullable("f", arrow.PrimitiveTypes.Float64), tabletest.Nullable("s", arrow.BinaryTypes.String), tabletest.Nullable("x", arrow.PrimitiveTypes.Int32)}
	putJSON(t, b, "t", `[{"n":5000000000,"f":1e300,"s":"d","x":7}]`, newFields...)
	check := func(when string) {
		t.Helper()
		for cond, want := range map[string]string{
			"": `{"s":"a"},{"s":"b"},{"s":"c"},{"s":"d"}`, "n = 1": `{"s":"a"}`, "n < 0": `{"s":"b"}`, "n > 4000000000": `{"s":"d"}`, "n is null": `{"s":"c"}`,
			"f = 0.5": `{"s":"a"}`, "f > 1e200": `{"s":"d"}`, "f >= 0.5 and f < 4": `{"s":"a"},{"s":"c"}`, "d = 1.25": `{"s":"a"}`, "d < 0": `{"s":"b"}`,
			"x is null": `{"s":"a"},{"s":"b"},{"s":"c"}`, "x = 7": `{"s":"d"}`, "x != 7": "", "y is null and n = 1": `{"s":"a"}`, "n > f": `{"s":"a"}`,
		} {
			wantEqual(t, when+": "+cond, scanJSON(t, b, "t", tabletest.Where(t, cond, "s")), want)
		}
		wantEqual(t, when+": only the added column", scanJSON(t, b, "t", tabletest.Where(t, "", "x")), `{"x":null},{"x":null},{"x":null},{"x":7}`)
		wantEqual(t, when+": added columns with a condition", scanJSON(t, b, "t", tabletest.Where(t, "x is null", "x", "y")), `{"x":null,"y":null},{"x":null,"y":null},{"x":null,"y":null}`)
		wantEqual(t, when+": values", scanJSON(t, b, "t", tabletest.Where(t, "n <= 1", "n", "f", "d")), `{"d":"1.25","f":0.5,"n":1},{"d":"-1.25","f":null,"n":-2}`)
	}
	check("before the compaction")
	tabletest.Compact(t, b.Store())
	check("after the compaction")
	putJSON(t, b, "t", `[{"n":6}]`, newFields[0])
	if _, err := b.Table("t").Upsert(t.Context(), rowsOfJSON(t, `[{"n":1,"s":"A"}]`, newFields[0], newFields[2]), &tables.UpsertOptions{Keys: []string{"n"}}); err != nil {
		t.Fatal(err)
	}
	tabletest.DeleteRows(t, b, "t", "x = 7")
	tabletest.DeleteRows(t, b, "t", "n < 0")
	wantEqual(t, "after an upsert and deletes", scanJSON(t, b, "t", tabletest.Where(t, "", "n", "s")), `{"n":6,"s":null},{"n":1,"s":"A"},{"n":null,"s":"c"}`)
}

func TestLargeDecimals(t *testing.T) {
	t.Parallel()
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1}).Bucket("")
	nines := strings.Repeat("9", 38)
	putJSON(t, b, "t", `[{"id":1,"x":"`+nines+`"},{"id":2,"x":"-`+nines+`"},{"id":3,"x":"0"}]`,
		tabletest.Nullable("id", arrow.PrimitiveTypes.Int32), tabletest.Nullable("x", &arrow.Decimal128Type{Precision: 38}))
	wantEqual(t, "x = 99…9", scanJSON(t, b, "t", tabletest.Where(t, "x = "+nines, "id")), `{"id":1}`)
	tabletest.DeleteRows(t, b, "t", "x < "+nines)
	wantEqual(t, "after the delete", scanJSON(t, b, "t", tabletest.Where(t, "", "id")), `{"id":1}`)
}

// TestLimitAndLast checks that Limit and Last select the first or last rows, whether they are in files, in the tail or
// in both.
func TestLimitAndLast(t *testing.T) {
	t.Parallel()
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1}).Bucket("")
	for i := range int64(4) {
		tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(10*i+1, 5)...)
		if i < 3 {
			tabletest.Fold(t, b.Store())
		}
	}
	table := b.Table("t")
	all, err := tabletest.ReadAll(t.Context(), table, nil)
	if err != nil || len(all) != 20 || !slices.IsSorted(all) {
		t.Fatalf("the table has rows %v (error %v), want 20 sorted numbers", all, err)
	}
	for n := range 21 {
		for _, cond := range []string{"", "n > 3"} {
			want := slices.DeleteFunc(slices.Clone(all), func(n int64) bool { return cond != "" && n <= 3 })
			n := min(max(n, 1), len(want))
			ns, err := tabletest.ReadAll(t.Context(), table, &tables.ScanOptions{Limit: int64(n), Filter: tabletest.ParseFilter(t, cond)})
			if err != nil || !slices.Equal(ns, want[:n]) {
				t.Errorf("the first %d rows with the condition %q are %v (error %v), want %v", n, cond, ns, err, want[:n])
			}
			ns, err = tabletest.ReadAll(t.Context(), table, &tables.ScanOptions{Last: int64(n), Filter: tabletest.ParseFilter(t, cond)})
			if err != nil || !slices.Equal(ns, want[len(want)-n:]) {
				t.Errorf("the last %d rows with the condition %q are %v (error %v), want %v", n, cond, ns, err, want[len(want)-n:])
			}
		}
	}
	wantEqual(t, "head", fmt.Sprint(all[:2]), "[1 2]")
}

// TestLongValues checks that a condition finds the rows of a file whose greatest string is too long for the statistics in the
// file's footer, and that the manifest has no wrong upper bound.
func TestLongValues(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	long := strings.Repeat("k", 1<<13)
	texts := array.NewStringBuilder(memory.DefaultAllocator)
	texts.AppendValues([]string{long, "7", ""}, nil)
	columns := arrow.NewSchema([]arrow.Field{tabletest.Nullable("s", arrow.BinaryTypes.String)}, nil)
	tabletest.PutRows(t, b, "t", tabletest.OneBatch(array.NewRecordBatch(columns, []arrow.Array{texts.NewArray()}, 3)), tables.PutAppend, nil)
	v, err := b.Table("t").View(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := v.Table().Scan().PlanFiles(t.Context())
	if err != nil || len(tasks) != 1 {
		t.Fatalf("PlanFiles returned %d files, %v; want one", len(tasks), err)
	}
	if upper := tasks[0].File.UpperBoundValues(); upper[1] != nil && string(upper[1]) < long {
		t.Errorf("the manifest has the upper bound %q, but the file has a greater value", upper[1])
	}
	for _, text := range []string{long, "7", ""} {
		result, err := b.Table("t").DeleteRows(t.Context(), tabletest.ParseFilter(t, "s = '"+text+"'"))
		if err != nil || result.Deleted != 1 {
			t.Errorf("deleting the row with s = %.10q: %+v, %v; want Deleted 1", text, result, err)
		}
	}
}
