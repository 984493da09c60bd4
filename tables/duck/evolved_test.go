//go:build cgo

package duck_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/peers"
)

// TestEvolved reads rows from before their table's columns were changed, in files and
// in the tail, by SQL and by pyiceberg.
func TestEvolved(t *testing.T) {
	python := peers.Python(t, "pyiceberg")
	s := newStore(t, nil)
	columns := func(of arrow.DataType, names ...string) *arrow.Schema {
		fields := []arrow.Field{{Name: "i", Type: of, Nullable: true}}
		for _, name := range names {
			fields = append(fields, arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: true})
		}
		return arrow.NewSchema(fields, nil)
	}
	put(t, s, "b", "t", jsonBatch(t, columns(arrow.PrimitiveTypes.Int16, "s", "gone"), `{"i":1,"s":"x","gone":"g"}`))
	evolve := func(changes ...tables.ColumnChange) {
		t.Helper()
		if err := s.Bucket("b").Evolve(t.Context(), "t", changes...); err != nil {
			t.Fatal(err)
		}
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
	if _, err := s.Fold(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
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
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
}
