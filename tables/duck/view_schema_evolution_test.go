//go:build cgo

package duck_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
)

// TestEvolved checks that SQL and pyiceberg correctly read rows that were written before the table's columns changed,
// from files and from the tail.
func TestEvolved(t *testing.T) {
	python := procs.Python(t, "pyiceberg")
	s := newStore(t, nil)
	columns := func(numberType arrow.DataType, names ...string) *arrow.Schema {
		fields := []arrow.Field{{Name: "i", Type: numberType, Nullable: true}}
		for _, name := range names {
			fields = append(fields, arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: true})
		}
		return arrow.NewSchema(fields, nil)
	}
	put(t, s, "b", "t", jsonBatch(t, columns(arrow.PrimitiveTypes.Int16, "s", "gone"), `{"i":1,"s":"x","gone":"g"}`))
	evolve := func(changes ...tables.ColumnChange) {
		t.Helper()
		must.Do(t, s.Bucket("b").Table("t").Evolve(t.Context(), changes...))
	}
	evolve(tables.ColumnChange{Op: "widen", Column: "i", Type: "int64"}, tables.ColumnChange{Op: "rename", Column: "s", To: "text"}, tables.ColumnChange{Op: "drop", Column: "gone"}, tables.ColumnChange{Op: "add", Column: "gone", Type: "utf8"})
	put(t, s, "b", "t", jsonBatch(t, columns(arrow.PrimitiveTypes.Int64, "text"), `{"i":5000000000,"text":"y"}`))
	expect(t, s, "SELECT text, i, gone FROM b.t", nil, "x|1|(null)", "y|5000000000|(null)")
	evolve(tables.ColumnChange{Op: "widen", Column: "i", Type: "float64"})
	put(t, s, "b", "t", jsonBatch(t, columns(arrow.PrimitiveTypes.Float64, "gone"), `{"i":0.5,"gone":"new"}`))
	expect(t, s, "SELECT text, i, gone FROM b.t", nil, "x|1|(null)", "y|5e+09|(null)", "(null)|0.5|new")
	expect(t, s, "SELECT count(*) FROM b.t WHERE i < 2 AND gone IS NULL", nil, "1")
	v := tables.Version(1)
	expect(t, s, "SELECT s, i, gone FROM b.t", &tables.QueryOptions{At: tables.AtVersion(v)}, "x|1|g")
	fold(t, s)
	const read = `
import sys
from pyiceberg.catalog import load_catalog
t = load_catalog("partd", type="sql", uri=f"sqlite:///{sys.argv[1]}/catalog.db", warehouse=f"file://{sys.argv[1]}").load_table("b.t")
print(sorted((str(r) for r in t.scan().to_arrow().to_pylist())))
print(t.scan(snapshot_id=t.metadata.snapshots[0].snapshot_id).to_arrow().to_pylist())
`
	out, err := exec.Command(python, "-c", read, s.Dir()).CombinedOutput()
	want := `["{'i': 0.5, 'text': None, 'gone': 'new'}", "{'i': 1.0, 'text': 'x', 'gone': None}", "{'i': 5000000000.0, 'text': 'y', 'gone': None}"]` +
		"\n[{'i': 1, 's': 'x', 'gone': 'g'}]"
	if err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("pyiceberg printed\n%s\nwant\n%s\nerror: %v", out, want, err)
	}
}

// TestUpsertWidened reads a table whose columns upserts have widened, with SQL, and with pyiceberg through pyarrow
// and DuckDB. Each must read the old rows in the new types.
func TestUpsertWidened(t *testing.T) {
	python := procs.Python(t, "warehouse")
	s := newStore(t, nil)
	columns := func(i, f, n, v arrow.DataType) *arrow.Schema {
		fields := []arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}
		for i, typ := range []arrow.DataType{i, f, n, v} {
			fields = append(fields, arrow.Field{Name: string("ifnv"[i]), Type: typ, Nullable: true})
		}
		return arrow.NewSchema(fields, nil)
	}
	put(t, s, "b", "t", jsonBatch(t, columns(arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Float32, arrow.Null, arrow.PrimitiveTypes.Int64), `{"k":1,"i":1,"f":0.5,"n":null,"v":1},{"k":2,"i":2,"f":1.5,"n":null,"v":2}`))
	must.Do(t, s.Bucket("b").Table("t").SetEvolution(t.Context(), tables.Flexible))
	upsert := func(columns *arrow.Schema, rows string) {
		t.Helper()
		r := must.Get(array.NewRecordReader(columns, []arrow.RecordBatch{jsonBatch(t, columns, rows)}))(t)
		must.Get(s.Bucket("b").Table("t").Upsert(t.Context(), r, &tables.UpsertOptions{Keys: []string{"k"}}))(t)
	}
	upsert(columns(arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float64, arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), `{"k":3,"i":5000000000,"f":1e300,"n":"x","v":3}`)
	put(t, s, "b", "t", jsonBatch(t, columns(arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float64, arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), `{"k":4,"i":4,"f":4,"n":"tail","v":4}`))
	want := [...]string{"1|1|0.5|(null)|1", "2|2|1.5|(null)|2", "3|5000000000|1e+300|x|3", "4|4|4|tail|4"}
	expect(t, s, "SELECT k, i, f, n, v FROM b.t ORDER BY k", nil, want[:]...)
	expect(t, s, "SELECT k FROM b.t WHERE n IS NULL AND i < 2", nil, "1")
	fold(t, s)
	const read = `
import sys
from pyiceberg.catalog import load_catalog
t = load_catalog("partd", type="sql", uri=f"sqlite:///{sys.argv[1]}/catalog.db", warehouse=f"file://{sys.argv[1]}").load_table("b.t")
rows = sorted(t.scan().to_arrow().to_pylist(), key=lambda r: r["k"])
assert sorted(t.scan().to_duckdb("t").sql("SELECT * FROM t").fetchall()) == [tuple(r.values()) for r in rows]
assert sorted(t.scan(row_filter="n is null and i < 2").to_arrow()["k"].to_pylist()) == [1]
print([*map(str, t.schema().as_arrow().types)], [tuple(r.values()) for r in rows])
`
	expectPyiceberg := func(want string) {
		t.Helper()
		out, err := exec.Command(python, "-c", read, s.Dir()).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("pyiceberg printed\n%s\nwant\n%s\nerror: %v", out, want, err)
		}
	}
	expectPyiceberg("['int64', 'int64', 'double', 'large_string', 'int64'] [(1, 1, 0.5, None, 1), (2, 2, 1.5, None, 2), (3, 5000000000, 1e+300, 'x', 3), (4, 4, 4.0, 'tail', 4)]")
	upsert(columns(arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float64, arrow.BinaryTypes.String, arrow.PrimitiveTypes.Float64), `{"k":2,"i":2,"f":2,"n":"y","v":2.5}`)
	want[1], want[2] = "2|2|2|y|2.5", "3|5000000000|1e+300|x|3"
	expect(t, s, "SELECT k, i, f, n, v FROM b.t ORDER BY k", nil, want[:]...)
	expectPyiceberg("['int64', 'int64', 'double', 'large_string', 'double'] [(1, 1, 0.5, None, 1.0), (2, 2, 2.0, 'y', 2.5), (3, 5000000000, 1e+300, 'x', 3.0), (4, 4, 4.0, 'tail', 4.0)]")
}

// TestChangedColumns reads files that were written before another program renamed, added, widened and dropped columns.
func TestChangedColumns(t *testing.T) {
	python := procs.Python(t, "pyiceberg")
	s := newStore(t, nil)
	change := func(step string) {
		t.Helper()
		fold(t, s)
		if out, err := exec.Command(python, "testdata/evolve_peer.py", s.Dir(), step).CombinedOutput(); err != nil {
			t.Fatalf("evolve_peer.py failed: %v\n%s", err, out)
		}
	}
	columns := []arrow.Field{
		{Name: "i", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "gone", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "part", Type: arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true}), Nullable: true},
	}
	put(t, s, "b", "t", jsonBatch(t, arrow.NewSchema(columns, nil), `{"i":1,"s":"x","gone":1.5,"part":{"a":7}}`))
	change("columns")
	change("order")
	newFields := []arrow.Field{{Name: "text", Type: columns[1].Type, Nullable: true}, {Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, columns[3], {Name: "added", Type: arrow.BinaryTypes.String, Nullable: true}}
	put(t, s, "b", "t", jsonBatch(t, arrow.NewSchema(newFields, nil), `{"text":"y","i":5000000000,"part":{"a":8},"added":"new"}`))
	want := []string{"x|1|7|(null)", "y|5000000000|8|new"}
	expect(t, s, "SELECT text, i, part.a, added FROM b.t", nil, want...)
	expect(t, s, "SELECT i FROM b.t WHERE text = 'x'", nil, "1")
	// DuckDB cannot find the fields of a struct by their IDs, so it reads rows that the table's scan copies.
	change("parts")
	expect(t, s, "SELECT text, i, part.b, added FROM b.t", nil, want...)
	expect(t, s, "SELECT count(*) FROM b.t", nil, "2")
}
