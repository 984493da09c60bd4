//go:build cgo

package duck_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
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
		must.Fail(t, err, "differ only in case", "%s", sql)
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

var nameSchemas = flag.Int("nameschemas", 60, "number of schemas that TestHostileNames tries")

// hostileNames lists unusual column names, some of them invalid.
var hostileNames = []string{
	"", "a", "A", "b", "a.b", "a.element", "a.key", "a.value", ".", "..", "a.", ".a", "element", "key", "value", "item",
	"\x00", "a\x00b", "\xff", "é", "e\u0301", "\"", "'", "`", "[]", "a b", "\n", "\t", "\\", "/", "*", "?", "%", "$1", "--", "select", "null",
	"rowid", "filename", "_row_id", "file_row_number", "😀", strings.Repeat("x", 300), "\u202e", "\ufeff", "0", "-1", "partd", "a,b", "a=b", "(", ";",
}

// hostileType returns a random type with random field names.
func hostileType(r *rand.Rand, depth int) arrow.DataType {
	kinds := 6
	if depth == 0 {
		kinds = 2
	}
	name := func() string { return hostileNames[r.IntN(len(hostileNames))] }
	switch r.IntN(kinds) {
	case 0:
		return arrow.PrimitiveTypes.Int64
	case 1:
		return arrow.BinaryTypes.String
	case 2:
		return arrow.ListOfField(arrow.Field{Name: name(), Type: hostileType(r, depth-1), Nullable: true})
	case 3:
		return arrow.MapOf(arrow.BinaryTypes.String, hostileType(r, depth-1))
	default:
		fields := make([]arrow.Field, 1+r.IntN(3))
		for i := range fields {
			fields[i] = arrow.Field{Name: name(), Type: hostileType(r, depth-1), Nullable: true}
		}
		return arrow.StructOf(fields...)
	}
}

// appendValue appends one value to a builder. No part of the value is null.
func appendValue(b array.Builder) {
	switch b := b.(type) {
	case *array.Int64Builder:
		b.Append(7)
	case *array.StringBuilder:
		b.Append("seven")
	case *array.ListBuilder:
		b.Append(true)
		appendValue(b.ValueBuilder())
	case *array.MapBuilder:
		b.Append(true)
		appendValue(b.KeyBuilder())
		appendValue(b.ItemBuilder())
	case *array.StructBuilder:
		b.Append(true)
		for i := range b.NumField() {
			appendValue(b.FieldBuilder(i))
		}
	default:
		panic(fmt.Sprintf("%T", b))
	}
}

// TestHostileNames puts rows with hostile column and field names. Each put must either store the rows unchanged, or
// write nothing and return an error that names the column. Stored tables must be readable, directly and with SQL,
// even after the store is reopened. They can also be listed, evolved and deleted.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), procs.Rand(t)
	engine := must.Get(duck.New(&duck.Options{TempDir: t.TempDir()}))(t)
	defer engine.Close() //nolint:errcheck // the test has ended
	dir, accepted := t.TempDir(), 0
	open := func() *tables.Store {
		t.Helper()
		return must.Get(tables.Open(ctx, dir, &tables.Options{Engine: engine, FoldAge: -1}))(t)
	}
	s := open()
	defer func() { _ = s.Close() }()
	for range *nameSchemas {
		fields := make([]arrow.Field, 1+r.IntN(4))
		for i := range fields {
			fields[i] = arrow.Field{Name: hostileNames[r.IntN(len(hostileNames))], Type: hostileType(r, r.IntN(3)), Nullable: true}
		}
		schema := arrow.NewSchema(fields, nil)
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for i := range fields {
			appendValue(b.Field(i))
		}
		batch := b.NewRecordBatch()
		bucket, fold := s.Bucket("b"), r.IntN(2) == 0
		mode := tables.PutAppend
		if r.IntN(2) == 0 {
			mode = tables.PutReplace
		}
		_, err := bucket.Table("t").Put(ctx, tabletest.OneBatch(batch), mode, nil)
		var schemaErr *tables.SchemaError
		if errors.As(err, &schemaErr) {
			if !strings.Contains(err.Error(), fmt.Sprintf("%q", schemaErr.Column)) || schema.FieldIndices(schemaErr.Column) == nil {
				t.Errorf("put of %v: the error does not name the column: %v", schema, err)
			}
			for i, err := range bucket.Tables(ctx, nil) {
				t.Errorf("a rejected put left the table %+v; error: %v", i, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("put of %q: %v", schema, err)
			continue
		}
		accepted++
		if fold {
			if _, err := s.Fold(ctx, nil); err != nil {
				t.Errorf("fold of %q: %v", schema, err)
			}
		}
		must.Do(t, s.Close())
		s = open()
		bucket = s.Bucket("b")
		check := func(operation string, got array.RecordReader, err error) {
			t.Helper()
			if err != nil {
				t.Errorf("%s of %q: %v", operation, schema, err)
				return
			}
			defer got.Release()
			rows := int64(0)
			for got.Next() {
				rows += got.RecordBatch().NumRows()
				for i, f := range fields {
					if value := got.RecordBatch().Column(i).ValueStr(0); valuesOnly(value) != valuesOnly(batch.Column(i).ValueStr(0)) {
						t.Errorf("%s of %q: column %q is %s, want %s", operation, schema, f.Name, value, batch.Column(i).ValueStr(0))
					}
				}
			}
			if got.Err() != nil || rows != 1 {
				t.Errorf("%s of %q: got %d rows, want 1; error: %v", operation, schema, rows, got.Err())
			}
		}
		table := bucket.Table("t")
		if _, err := table.At(ctx); err == nil {
			var got array.RecordReader
			got, err = table.Scan(ctx, nil)
			check("get", got, err)
			var columns []string
			for _, f := range fields {
				columns = append(columns, f.Name)
			}
			got, err = table.Scan(ctx, &tables.ScanOptions{Columns: columns})
			check("get columns", got, err)
		}
		if !differOnlyInCase(schema.Fields()) { // SQL rejects columns that differ only in case
			got, err := s.Query(ctx, "SELECT * FROM b.t", nil)
			check("sql", got, err)
		}
		if err := bucket.Table("t").Evolve(ctx, tables.ColumnChange{Op: "add", Column: "new", Type: "int64"}); err != nil {
			t.Errorf("Evolve of %q: %v", schema, err)
		}
		for i, err := range bucket.Tables(ctx, nil) {
			if err != nil || i.Damaged != "" {
				t.Errorf("Tables with %q: Damaged is %q, want an empty text; error: %v", schema, i.Damaged, err)
			}
		}
		if err := bucket.Delete(ctx, "t"); err != nil {
			t.Fatalf("Delete of %q: %v", schema, err)
		}
		batch.Release()
		b.Release()
	}
	if accepted == 0 {
		t.Error("all schemas were rejected")
	}
	t.Log(accepted, "accepted")
}

// valuesOnly summarizes the text of a value without its field names, because JSON can write a name in
// several ways.
func valuesOnly(text string) string {
	return fmt.Sprint(strings.Count(text, "7"), strings.Count(text, "seven"), strings.Contains(text, "null"))
}

// differOnlyInCase reports whether the names of sibling fields differ only in case.
func differOnlyInCase(fields []arrow.Field) bool {
	seen := map[string]bool{}
	for _, f := range fields {
		nested, _ := f.Type.(arrow.NestedType)
		if seen[strings.ToLower(f.Name)] || nested != nil && differOnlyInCase(nested.Fields()) {
			return true
		}
		seen[strings.ToLower(f.Name)] = true
	}
	return false
}
