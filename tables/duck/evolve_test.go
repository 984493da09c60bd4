//go:build cgo

package duck_test

import (
	"os/exec"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/peers"
)

// TestChangedColumns reads files that were written before another program renamed, added, widened and dropped columns.
func TestChangedColumns(t *testing.T) {
	python := peers.Python(t, "pyiceberg")
	s := newStore(t, nil)
	change := func(step string) {
		t.Helper()
		if _, err := s.Fold(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
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
