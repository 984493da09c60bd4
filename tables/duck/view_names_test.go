//go:build cgo

package duck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/tables"
)

// TestOddNames queries buckets and tables with names that DuckDB itself uses, or that need quotes.
func TestOddNames(t *testing.T) {
	s := newStore(t, nil)
	const reserved = 5
	names := []string{"temp", "system", "memory", "pg_catalog", "information_schema", "main", "default", "a.b", `a"b`, "a'b", "größe", "select", "/etc/passwd.csv", "pg_views", "duckdb_settings", "sqlite_master"}
	for i, name := range names {
		put(t, s, name, "t", numbers(0, int64(i+1)))
		put(t, s, "b", name, numbers(0, int64(i+1)))
	}
	for i, name := range names {
		quoted := `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		if i < reserved {
			expectError(t, s, "SELECT count(*) FROM "+quoted+".t", nil, "line 1, column 22: "+quoted+" is a reserved word")
		} else {
			expect(t, s, "SELECT count(*) FROM "+quoted+".t", nil, fmt.Sprint(i+1))
		}
		expect(t, s, "SELECT count(*) FROM b."+quoted, nil, fmt.Sprint(i+1))
		expect(t, s, "SELECT count(*) FROM "+quoted, &tables.QueryOptions{Bucket: "b"}, fmt.Sprint(i+1))
		expect(t, s, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: name}, fmt.Sprint(i+1))
	}
}

// TestOddNamesWithinStructs checks that struct fields can be read although they have other names in the files.
func TestOddNamesWithinStructs(t *testing.T) {
	s := newStore(t, nil)
	odd := arrow.StructOf(arrow.Field{Name: "x y", Type: arrow.BinaryTypes.String, Nullable: true})
	schema := arrow.NewSchema([]arrow.Field{{Name: "s", Type: odd, Nullable: true}, {Name: "l", Type: arrow.ListOf(odd), Nullable: true}}, nil)
	put(t, s, "b", "t", jsonBatch(t, schema, `{"s":{"x y":"a"},"l":[{"x y":"b"}]}`))
	fold(t, s)
	put(t, s, "b", "t", jsonBatch(t, schema, `{"s":{"x y":"c"},"l":[{"x y":"d"}]}`))
	expect(t, s, `SELECT s."x y", l[1]."x y" FROM b.t`, nil, "a|b", "c|d")
}

func TestNamesDifferingInCase(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "T", numbers(0, 1))
	put(t, s, "b", "t", numbers(0, 2))
	put(t, s, "b", "Other", numbers(0, 3))
	put(t, s, "B", "t", numbers(0, 4))
	o := &tables.QueryOptions{Bucket: "b"}
	expect(t, s, "SELECT count(*) FROM T", o, "1")
	expect(t, s, `SELECT count(*) FROM "t"`, o, "2")
	expect(t, s, "SELECT count(*) FROM OTHER", o, "3")
	expect(t, s, `SELECT count(*) FROM "B".t`, o, "4")
	expect(t, s, `SELECT count(*) FROM other, OTHER`, o, "9")
	for _, sql := range []string{`SELECT * FROM "T", "t"`, `SELECT * FROM b.t, "B".t`} {
		_, err := rows(t, s, sql, o)
		if err == nil || !strings.Contains(err.Error(), "differ only in case") {
			t.Errorf("%s: error = %v, want \"differ only in case\"", sql, err)
		}
	}
	put(t, s, "b", "xY", numbers(0, 1))
	put(t, s, "b", "Xy", numbers(0, 1))
	expectError(t, s, "FROM xy", o, `"b"."Xy" and "b"."xY"`)
	put(t, s, "b", "columns", jsonBatch(t, arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64}, {Name: "A", Type: arrow.PrimitiveTypes.Int64}}, nil), `{"a":1,"A":2}`))
	expectError(t, s, "SELECT a FROM columns", o, `columns "a" and "A" differ only in case`)
}

// TestRowIDsAreHidden checks that SQL does not see the columns in which a compaction stores the IDs of rows.
func TestRowIDsAreHidden(t *testing.T) {
	s := newStore(t, nil)
	createIceberg(t, s, "t", iceberg.NestedField{ID: 1, Name: "k", Type: iceberg.PrimitiveTypes.Int64}, iceberg.NestedField{ID: 2, Name: "s", Type: iceberg.PrimitiveTypes.String})
	for i := range int64(2) {
		put(t, s, "b", "t", numbers(i, i+1))
		fold(t, s)
	}
	if r, err := s.Compact(t.Context(), nil); err != nil || r.FilesBefore != 2 {
		t.Fatalf("Compact = %+v, %v; want two files merged", r, err)
	}
	put(t, s, "b", "t", numbers(2, 3)) // this file lacks the two columns
	fold(t, s)
	expect(t, s, "SELECT * FROM b.t ORDER BY k", nil, "0|s0", "1|s1", "2|s2")
}
