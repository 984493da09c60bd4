//go:build cgo

package duck_test

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
)

func nullable(name string, typ arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: typ, Nullable: true}
}

// floats is a schema with floats at every depth.
var floats = arrow.NewSchema([]arrow.Field{
	nullable("k", arrow.PrimitiveTypes.Int64),
	nullable("f", arrow.PrimitiveTypes.Float64),
	nullable("g", arrow.PrimitiveTypes.Float32),
	nullable("s", arrow.StructOf(nullable("a", arrow.PrimitiveTypes.Float64), nullable("b", arrow.StructOf(nullable("c", arrow.PrimitiveTypes.Float32))))),
	nullable("l", arrow.ListOf(arrow.PrimitiveTypes.Float64)),
	nullable("m", arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Float32)),
}, nil)

// floatRow returns a row of floats in JSON, where each float is v.
func floatRow(k int, v string) string {
	return fmt.Sprintf(`{"k":%d,"f":%s,"g":%s,"s":{"a":%s,"b":{"c":%s}},"l":[%s],"m":[{"key":"x","value":%s}]}`, k, v, v, v, v, v, v)
}

// expectNaN checks conditions on a table where row 2 contains NaN, rows 1 and 4 contain 1, and row 3 contains null.
// In SQL, NaN equals itself and is larger than all numbers.
func expectNaN(t *testing.T, s *tables.Store, state string) {
	t.Helper()
	for _, e := range []string{"f", "g", "s.a", "s.b.c", "l[1]", "m['x']"} {
		for _, p := range []string{
			"%s > 2", "%s >= 2", "%s > 1", "%s <> 1", "%s = 'NaN'", "NOT (%s <= 1)", "NOT (%s = 1)", "NOT %s < 2", "%s >= 'inf'", "%s BETWEEN 2 AND 'NaN'",
			"%s IN (5, 'NaN')", "%s NOT IN (1, 5)", "isnan(%s)", "%s IS DISTINCT FROM 1 AND k <> 3",
		} {
			sql := "SELECT k FROM b.t WHERE " + fmt.Sprintf(p, e)
			if got, err := rows(t, s, sql, nil); err != nil || fmt.Sprint(got) != "[2]" {
				t.Errorf("%s: %s = %v, error %v; want row 2", state, sql, got, err)
			}
		}
		sql := fmt.Sprintf("SELECT min(%s), max(%[1]s), count(%[1]s) FROM b.t", e)
		if got, err := rows(t, s, sql, nil); err != nil || fmt.Sprint(got) != "[1|NaN|3]" {
			t.Errorf("%s: %s = %v, error %v; want [1|NaN|3]", state, sql, got, err)
		}
	}
}

// TestNaN reads rows with NaN, which the bounds in Parquet files omit.
func TestNaN(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", jsonBatch(t, floats, floatRow(1, "1")))
	put(t, s, "b", "t", jsonBatch(t, floats, floatRow(2, `"NaN"`)+","+floatRow(3, "null")+","+floatRow(4, "1")))
	expectNaN(t, s, "rows in the tail")
	fold(t, s)
	expectNaN(t, s, "folded rows")
	if _, err := s.Compact(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	expectNaN(t, s, "compacted rows")
	r, err := s.Query(t.Context(), "SELECT * FROM b.t", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bucket("b").Table("t").Put(t.Context(), r, tables.PutReplace, nil); err != nil {
		t.Fatal(err)
	}
	expectNaN(t, s, "rows put as one file")
}

// TestNaNForeign reads a file written by pyarrow, which does not count NaN. All of its float
// columns must be treated as if they contained NaN.
func TestNaNForeign(t *testing.T) {
	python := procs.Python(t, "pyiceberg")
	s := newStore(t, nil)
	put(t, s, "b", "t", jsonBatch(t, floats, floatRow(1, "1")))
	if plan := planOf(t, s); len(plan.NaN) > 0 {
		t.Errorf("columns %q may contain NaN, want no column", plan.NaN)
	}
	const add = `
import sys, pyarrow as pa
from pyiceberg.catalog import load_catalog
t = load_catalog("partd", type="sql", uri=f"sqlite:///{sys.argv[1]}/catalog.db", warehouse=f"file://{sys.argv[1]}").load_table("b.t")
row = lambda v: {"f": v, "g": v, "s": {"a": v, "b": {"c": v}}, "l": [v], "m": [("x", v)]}
t.append(pa.Table.from_pylist([{"k": 2, **row(float("nan"))}, {"k": 3, **row(None)}, {"k": 4, **row(1.0)}], schema=t.schema().as_arrow()))
`
	if out, err := exec.Command(python, "-c", add, s.Dir()).CombinedOutput(); err != nil {
		t.Fatalf("the pyiceberg script failed: %v\n%s", err, out)
	}
	if plan := planOf(t, s); len(plan.NaN) != 5 {
		t.Errorf("columns %q may contain NaN, want all except k", plan.NaN)
	}
	expectNaN(t, s, "rows written by pyarrow")
	put(t, s, "b", "t", jsonBatch(t, floats, floatRow(5, "0.5")))
	expect(t, s, "SELECT k FROM b.t WHERE f > 2 OR f < 1", nil, "2", "5")
}

func planOf(t *testing.T, s *tables.Store) *tables.ScanPlan {
	t.Helper()
	table := s.Bucket("b").Table("t")
	plan, err := table.ScanPlan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plan.Close)
	return plan
}
