package tables_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	icebergtable "github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func rowsOfJSON(t testing.TB, text string, fields ...arrow.Field) array.RecordReader {
	t.Helper()
	batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, arrow.NewSchema(fields, nil), strings.NewReader(text))
	must.Do(t, err)
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
	r := must.Get(b.Table(name).Scan(t.Context(), o))(t)
	defer r.Release()
	var out bytes.Buffer
	for r.Next() {
		text := must.Get(r.RecordBatch().MarshalJSON())(t)
		out.Write(bytes.Trim(bytes.ReplaceAll(text, []byte("\n"), nil), "[]"))
		out.WriteByte(',')
	}
	must.Do(t, r.Err())
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
	must.Get(b.Table("t").Upsert(t.Context(), rowsOfJSON(t, `[{"id":9,"a":3,"b":"w"},{"id":10,"a":4,"b":"z"}]`, fields[0], fields[4], fields[5]), &tables.UpsertOptions{Keys: []string{"a"}}))(t)
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
	must.Do(t, b.Table("t").Evolve(t.Context(), tables.ColumnChange{Op: "widen", Column: "n", Type: "int64"}, tables.ColumnChange{Op: "widen", Column: "f", Type: "float64"},
		tables.ColumnChange{Op: "widen", Column: "d", Type: "decimal(20, 2)"}, tables.ColumnChange{Op: "rename", Column: "t", To: "s"}, tables.ColumnChange{Op: "add", Column: "x", Type: "int32"},
		tables.ColumnChange{Op: "add", Column: "y", Type: "utf8"}))
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
	must.Get(b.Table("t").Upsert(t.Context(), rowsOfJSON(t, `[{"n":1,"s":"A"}]`, newFields[0], newFields[2]), &tables.UpsertOptions{Keys: []string{"n"}}))(t)
	tabletest.DeleteRows(t, b, "t", "x = 7")
	tabletest.DeleteRows(t, b, "t", "n < 0")
	wantEqual(t, "after an upsert and deletes", scanJSON(t, b, "t", tabletest.Where(t, "", "n", "s")), `{"n":6,"s":null},{"n":1,"s":"A"},{"n":null,"s":"c"}`)
}

// foreignCommit commits to a table as another program would.
func foreignCommit(t *testing.T, s *tables.Store, name string, do func(*icebergtable.Transaction) error) {
	t.Helper()
	v := must.Get(s.Bucket("").Table(name).View(t.Context(), false))(t)
	defer take.Release(v.Rows())
	io := s.Catalog().NewIO()
	tx := s.Catalog().Staged(tables.DefaultNamespace, name, v.Table().Metadata(), v.Table().MetadataLocation(), io).NewTransaction()
	must.Do(t, do(tx))
	meta := must.Get(commit.MetadataOf(tx))(t)
	must.Do(t, s.Catalog().Commit(t.Context(), nil, &icecat.Change{Namespace: tables.DefaultNamespace, Name: name, Base: v.Table(), New: meta, IOs: []*icecat.FileIO{io}}))
}

// TestForeignDeletes checks that no reader returns rows that another program deleted with delete files, and
// that later writes do not bring them back.
func TestForeignDeletes(t *testing.T) {
	t.Parallel()
	fields := []arrow.Field{tabletest.Nullable("id", arrow.PrimitiveTypes.Int64), tabletest.Nullable("b", arrow.FixedWidthTypes.Boolean), tabletest.Nullable("s", arrow.BinaryTypes.String)}
	for deletes, version := range map[string]int{"positions": 2, "deletion vectors": 3, "equal rows": 2} {
		t.Run(deletes, func(t *testing.T) {
			s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
			b := s.Bucket("")
			putJSON(t, b, "t", `[{"id":1,"b":null,"s":"a"},{"id":2,"b":true,"s":"b"},{"id":3,"b":false,"s":null},{"id":4,"b":true,"s":"d"}]`, fields...)
			putJSON(t, b, "t", `[{"id":5,"b":null,"s":null},{"id":6,"b":true,"s":"f"}]`, fields...)
			engine := tabletest.NewEngine(t, s, "", "t")
			engine.MergeOnRead(version)
			if deletes == "equal rows" {
				rows := rowsOfJSON(t, `[{"id":2,"s":"b"},{"id":3,"s":"x"},{"id":6,"s":null}]`, fields[0], fields[2])
				rows.Next()
				engine.DeleteEqual(rows.RecordBatch(), 1, 3)
			} else {
				engine.Delete(iceberg.EqualTo(iceberg.Reference("id"), int64(2)))
			}
			v := must.Get(b.Table("t").View(t.Context(), false))(t)
			tasks, err := datafile.Tasks(t.Context(), v.Table())
			if err != nil || len(tasks) != 2 || !datafile.HasDeletes(tasks[0]) {
				t.Fatalf("the commit wrote no delete files: tasks %v, error %v", tasks, err)
			}
			if deletes == "positions" {
				wantFailureNotCached(t, datafile.ToRead(v.Table(), tasks)[0])
			}
			want := `{"b":null,"id":1,"s":"a"},{"b":false,"id":3,"s":null},{"b":true,"id":4,"s":"d"},{"b":null,"id":5,"s":null},{"b":true,"id":6,"s":"f"}`
			wantEqual(t, "all rows", scanJSON(t, b, "t", nil), want)
			wantEqual(t, "one column with a filter", scanJSON(t, b, "t", tabletest.Where(t, "b = true", "s")), `{"s":"d"},{"s":"f"}`)
			wantEqual(t, "the first rows", scanJSON(t, b, "t", &tables.ScanOptions{Limit: 2, Columns: []string{"id"}}), `{"id":1},{"id":3}`)
			for n, want := range map[int64]string{1: `{"id":6}`, 3: `{"id":4},{"id":5},{"id":6}`, 5: `{"id":1},{"id":3},{"id":4},{"id":5},{"id":6}`} {
				wantEqual(t, "the last rows", scanJSON(t, b, "t", &tables.ScanOptions{Last: n, Columns: []string{"id"}}), want)
			}
			tabletest.DeleteRows(t, b, "t", "id = 4")
			want = strings.Replace(want, `{"b":true,"id":4,"s":"d"},`, "", 1)
			wantEqual(t, "after DeleteRows", fmt.Sprint(strings.Count(scanJSON(t, b, "t", nil), "id"), strings.Contains(scanJSON(t, b, "t", nil), `"id":2`)), "4 false")
			tabletest.Compact(t, s)
			all := scanJSON(t, b, "t", nil)
			for _, row := range strings.SplitAfter(want, "},") {
				if !strings.Contains(all, strings.TrimSuffix(row, ",")) {
					t.Errorf("after the compaction, row %s is missing: %s", row, all)
				}
			}
			if strings.Count(all, "id") != 4 {
				t.Errorf("after the compaction, got rows %s, want 4", all)
			}
		})
	}
}

// wantFailureNotCached checks that a failure to read delete files is not cached.
func wantFailureNotCached(t *testing.T, f datafile.File) {
	t.Helper()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Deletes(canceled); err == nil {
		t.Fatal("Deletes with a canceled context succeeded, want an error")
	}
	drop := must.Get(f.Deletes(t.Context()))(t)
	keep := []bool{true, true, true, true}
	if err := drop.MarkDeleted(0, keep, nil); err != nil || !slices.Equal(keep, []bool{true, false, true, true}) {
		t.Errorf("after a failed read, MarkDeleted kept rows %v, error %v; want all except the second", keep, err)
	}
	keep = []bool{true, true}
	if err := drop.MarkDeleted(1, keep, nil); err != nil || !slices.Equal(keep, []bool{false, true}) {
		t.Errorf("in a batch that begins with the second row, MarkDeleted kept rows %v, error %v; want only the second row of the batch", keep, err)
	}
}

// TestForeignSeries checks that pyiceberg reads a corrected, partitioned table, and that rows it appends are read in
// order.
func TestForeignSeries(t *testing.T) {
	python := must.Get(procs.StartPython(procs.Python(t, "pyiceberg"), "pyarrow", "pyiceberg.catalog"))(t)
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts", Keys: []string{"k"}, OnDuplicate: tables.KeepLast, Partition: tables.PartitionDay}}
	const day = 24 * 60 * 60
	put := func(rows ...tick) {
		t.Helper()
		tabletest.PutRows(t, b, "t", ticksOf(rows, 10), tables.PutAppend, o)
	}
	put(tick{2 * day, "a", 1, 0}, tick{0, "b", 2, 0}, tick{day, "a", 3, 0}, tick{0, "a", 4, 0})
	tabletest.Fold(t, s)
	put(tick{day, "a", 5, 0}) // replaces the row with v = 3
	tabletest.DeleteRows(t, b, "t", "v = 4")
	const script = `
import sys, datetime, pyarrow as pa
from pyiceberg.catalog import load_catalog
t = load_catalog("partd", type="sql", uri=f"sqlite:///{sys.argv[1]}/catalog.db", warehouse=f"file://{sys.argv[1]}").load_table("b.t")
print(sorted(r["v"] for r in t.scan().to_arrow().to_pylist()), len(list(t.scan().plan_files())), sorted(r["v"] for r in t.scan("v = 3 or v = 4 or v = 5").to_arrow().to_pylist()))
if sys.argv[2] == "append":
    at = [datetime.datetime.fromtimestamp(day * 86400, datetime.timezone.utc) for day in (4, 1, 3)]
    t.append(pa.table({"v": pa.array([6, 7, 8], pa.int64()), "ts": pa.array(at, pa.timestamp("us", "UTC")), "k": ["z", "z", "z"]}))
`
	pyiceberg := func(want, action string) {
		t.Helper()
		out, err := python.Run(script, s.Dir(), action)
		if err != nil || strings.TrimSpace(out) != want {
			t.Errorf("pyiceberg printed\n%s\nwant\n%s\nerror: %v", out, want, err)
		}
	}
	pyiceberg("[1, 2, 5] 3 [5]", "append")
	want := []tick{{0, "b", 2, 0}, {day, "a", 5, 0}, {day, "z", 7, 0}, {2 * day, "a", 1, 0}, {3 * day, "z", 8, 0}, {4 * day, "z", 6, 0}}
	wantTicks(t, s, "t", want)
	put(tick{3 * day, "z", 9, 0}, tick{3 * day, "a", 10, 0}) // replaces a row of a foreign file
	want = append(want[:4], tick{3 * day, "a", 10, 0}, tick{3 * day, "z", 9, 0}, tick{4 * day, "z", 6, 0})
	check := func() {
		t.Helper()
		wantTicks(t, s, "t", want)
		for text, o := range map[string]*tables.ScanOptions{
			"[]": {Filter: tabletest.ParseFilter(t, "v = 8")},
			"[{259200 z 9}]": {
				Filter: tabletest.ParseFilter(t, "k = 'z'"), From: time.Unix(3*day, 0), To: time.Unix(4*day, 0),
			},
			"[{259200 z 9} {345600 z 6}]":               {Last: 2},
			"[{0 b 2} {86400 a 5}]":                     {Limit: 2, ChunkRows: 1},
			"[{259200 a 10} {259200 z 9} {345600 z 6}]": {From: time.Unix(3*day, 0)},
		} {
			if got, err := ticksFrom(b.Table("t").Scan(t.Context(), o)); err != nil || fmt.Sprint(got) != text {
				t.Errorf("Scan(%+v) = %v, want %s; error: %v", o, got, text, err)
			}
		}
	}
	check()
	tabletest.Fold(t, s)
	check()
	tabletest.Compact(t, s)
	check()
	pyiceberg("[1, 2, 5, 6, 7, 9, 10] 5 [5]", "read")
}

// TestPartsWithNullTimes checks that the parts of a table with an order have all of its rows, even those without a
// time. Another engine makes such rows when it rolls a table back to rows of former columns.
func TestPartsWithNullTimes(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	tabletest.Put(t, b, "t", tables.PutAppend, 1, 2)
	tabletest.Fold(t, s)
	engine := tabletest.NewEngine(t, s, "b", "t")
	loaded := must.Get(engine.LoadTable(t.Context(), nil))(t)
	o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts", Keys: []string{"k"}}}
	tabletest.PutRows(t, b, "t", ticksOf([]tick{{0, "a", 1, 0}}, 10), tables.PutReplace, o)
	engine.Commit(func(tx *icebergtable.Transaction) error {
		return tx.RollbackToSnapshot(loaded.CurrentSnapshot().SnapshotID)
	})
	for i := range int64(3) {
		tabletest.PutRows(t, b, "t", ticksOf([]tick{{1000 * i, "a", i, 0}}, 10), tables.PutAppend, nil)
		tabletest.Fold(t, s)
	}
	table := b.Table("t")
	read := func(o *tables.ScanOptions) string {
		r := must.Get(table.Scan(t.Context(), o))(t)
		_, rows, _ := strings.Cut(tabletest.ReaderText(t, r)+" | ", " | ")
		return rows
	}
	count := must.Get(table.Parts(t.Context()))(t)
	parts := ""
	for part := range count {
		parts += read(&tables.ScanOptions{Part: int64(part + 1)})
	}
	if whole := read(nil); parts != whole || strings.Count(whole, "|") != 5 || count < 2 {
		t.Errorf("%d parts have the rows\n%s\nwant\n%s", count, parts, whole)
	}
}
