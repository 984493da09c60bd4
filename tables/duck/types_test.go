//go:build cgo

package duck_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestTypes(t *testing.T) {
	s := newStore(t, nil)
	list := arrow.ListOf(arrow.PrimitiveTypes.Uint32)
	types := []struct {
		put  arrow.DataType
		json string
		got  arrow.DataType // nil means the same type as put
		want string
	}{
		{arrow.FixedWidthTypes.Boolean, "true", nil, "true"},
		{arrow.PrimitiveTypes.Int8, "-3", nil, "-3"},
		{arrow.PrimitiveTypes.Int16, "-3", nil, "-3"},
		{arrow.PrimitiveTypes.Uint8, "200", nil, "200"},
		{arrow.PrimitiveTypes.Uint16, "60000", nil, "60000"},
		{arrow.PrimitiveTypes.Uint32, "4000000000", nil, "4000000000"},
		{arrow.PrimitiveTypes.Uint64, "18446744073709551615", nil, "18446744073709551615"},
		{arrow.FixedWidthTypes.Float16, "1.5", arrow.PrimitiveTypes.Float32, "1.5"},
		{arrow.PrimitiveTypes.Float32, "1.5", nil, "1.5"},
		{arrow.BinaryTypes.LargeString, `"x"`, arrow.BinaryTypes.String, "x"},
		{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, `"x"`, arrow.BinaryTypes.String, "x"},
		{arrow.BinaryTypes.Binary, `"AAE="`, nil, "AAE="},
		{&arrow.FixedSizeBinaryType{ByteWidth: 2}, `"AAE="`, arrow.BinaryTypes.Binary, "AAE="},
		{&arrow.Decimal128Type{Precision: 7, Scale: 2}, `"12.34"`, nil, "12.34"},
		{arrow.PrimitiveTypes.Date32, `"2023-01-31"`, nil, "2023-01-31"},
		{arrow.FixedWidthTypes.Time32ms, `"01:02:03.004"`, arrow.FixedWidthTypes.Time64us, "01:02:03.004000"},
		{arrow.FixedWidthTypes.Time64us, `"01:02:03.000004"`, nil, "01:02:03.000004"},
		{&arrow.TimestampType{Unit: arrow.Second}, `"2023-01-31 01:02:03"`, nil, "2023-01-31T01:02:03"},
		{&arrow.TimestampType{Unit: arrow.Millisecond}, `"2023-01-31 01:02:03.004"`, nil, "2023-01-31T01:02:03.004"},
		{&arrow.TimestampType{Unit: arrow.Nanosecond}, `"2023-01-31 01:02:03.123456789"`, nil, "2023-01-31T01:02:03.123456789"},
		{&arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, `"2023-01-31 01:02:03Z"`, nil, "2023-01-31T01:02:03Z"},
		{arrow.FixedWidthTypes.Duration_ms, "1500", arrow.PrimitiveTypes.Int64, "1500"},
		{list, "[1, 4000000000]", nil, "[1,4000000000]"},
		{arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Uint8, Nullable: true}), `{"a": 200}`, nil, `{"a":200}`},
		{arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Uint16), `[{"key":"x","value":7}]`, nil, `[{"key":"x","value":7}]`},
	}
	var fields []arrow.Field
	var line []string
	for i, c := range types {
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: c.put, Nullable: true})
		line = append(line, fmt.Sprintf("%q:%s", fields[i].Name, c.json))
	}
	put(t, s, "b", "t", jsonBatch(t, arrow.NewSchema(fields, nil), "{"+strings.Join(line, ",")+"}"))
	for _, source := range []string{"tail", "files"} {
		r := must.Get(s.Query(t.Context(), "SELECT * FROM b.t", nil))(t)
		if !r.Next() {
			t.Fatalf("got no rows; error: %v", r.Err())
		}
		for i, c := range types {
			column := r.RecordBatch().Column(i)
			if c.got == nil {
				c.got = c.put
			}
			if fmt.Sprint(column.DataType()) != fmt.Sprint(c.got) && c.got.ID() != column.DataType().ID() || column.ValueStr(0) != c.want {
				t.Errorf("type %s read from the %s: got %s %s, want %s %s", c.put, source, column.DataType(), column.ValueStr(0), c.got, c.want)
			}
		}
		r.Release()
		fold(t, s)
	}
}

// createIceberg creates an empty table as another Iceberg engine would.
func createIceberg(t *testing.T, s *tables.Store, name string, fields ...iceberg.NestedField) {
	t.Helper()
	meta, err := partdiceberg.NewMetadata(s, iceberg.NewSchema(0, fields...), iceberg.UnpartitionedSpec, table.UnsortedSortOrder, iceberg.Properties{"format-version": "3"})
	if err == nil {
		_, err = partdiceberg.Commit(t.Context(), s, partdiceberg.Change{Bucket: "b", Table: name, New: meta})
	}
	if err != nil {
		t.Fatalf("create table %s: %v", name, err)
	}
}

// TestVariant checks that operations that read or put rows of a table with a column of Iceberg's type variant fail with
// an error that names the column. Other operations on the table, and operations on other tables, still work.
func TestVariant(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "other", numbers(0, 1))
	key := iceberg.NestedField{ID: 1, Name: "k", Type: iceberg.PrimitiveTypes.Int64}
	for i, variant := range []iceberg.Type{
		iceberg.VariantType{},
		&iceberg.ListType{ElementID: 3, Element: iceberg.VariantType{}},
		&iceberg.MapType{KeyID: 3, KeyType: iceberg.PrimitiveTypes.String, ValueID: 4, ValueType: iceberg.VariantType{}},
		&iceberg.StructType{FieldList: []iceberg.NestedField{{ID: 3, Name: "x", Type: iceberg.VariantType{}}}},
	} {
		name := fmt.Sprint("t", i)
		createIceberg(t, s, name, key, iceberg.NestedField{ID: 2, Name: "v", Type: variant})
		expectRefusal := func(operation string, err error) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), `"v"`) || !strings.Contains(err.Error(), "variant") {
				t.Errorf("%s of %v: error = %v, want an error about the variant column v", operation, variant, err)
			}
		}
		_, err := scanText(t, s, "b", name)
		expectRefusal("scan", err)
		_, err = rows(t, s, "SELECT k FROM b."+name, nil)
		expectRefusal("query", err)
		_, err = s.Describe(t.Context(), "SELECT k FROM b."+name, nil)
		expectRefusal("describe", err)
		batch := numbers(0, 1)
		columns := arrow.NewSchema(batch.Schema().Fields()[:1], nil)
		r := must.Get(array.NewRecordReader(columns, []arrow.RecordBatch{array.NewRecordBatch(columns, batch.Columns()[:1], 1)}))(t)
		_, err = s.Bucket("b").Table(name).Put(t.Context(), r, tables.PutAppend, nil)
		expectRefusal("append", err)
		if it, err := partdiceberg.Load(t.Context(), s.Bucket("b").Table(name), nil); err != nil || it.Schema().NumFields() != 2 {
			t.Errorf("Iceberg of %v: error = %v, want a schema with 2 fields", variant, err)
		}
	}
	must.Get(s.Fold(t.Context(), nil))(t)
	must.Get(s.Compact(t.Context(), nil))(t)
	must.Get(s.Bucket("b").Snapshot(t.Context(), "before"))(t)
	must.Get(s.Verify(t.Context(), nil))(t)
	must.Get(s.Expire(t.Context(), nil))(t)
	must.Do(t, s.Bucket("b").Table("t2").Rename(t.Context(), s.Bucket("c"), "moved"))
	expect(t, s, "SELECT k FROM b.other", nil, "0")
	if lines, err := rows(t, s, "SHOW ALL TABLES", nil); err != nil || len(lines) != 5 || !strings.Contains(lines[4], "moved") {
		t.Errorf("SHOW ALL TABLES returned %q, error %v; want 5 rows, of which the last contains moved", lines, err)
	}
	must.Do(t, s.Bucket("b").Table("t0").Evolve(t.Context(), tables.ColumnChange{Op: tables.DropColumn, Column: "v"}))
	expect(t, s, "SELECT count(k) FROM b.t0", nil, "0")
	must.Do(t, s.Bucket("b").Delete(t.Context(), "t1"))
}

// TestIcebergTypes reads tables with columns of each Iceberg type. Scans and queries must either both succeed or both
// fail, and never panic.
func TestIcebergTypes(t *testing.T) {
	s := newStore(t, nil)
	for i, icebergType := range []iceberg.Type{
		iceberg.UnknownType{},
		iceberg.GeometryType{},
		iceberg.GeographyType{},
		iceberg.PrimitiveTypes.TimestampNs, iceberg.PrimitiveTypes.TimestampTzNs,
		iceberg.PrimitiveTypes.UUID, iceberg.PrimitiveTypes.Time, iceberg.FixedTypeOf(3), iceberg.DecimalTypeOf(20, 3), iceberg.PrimitiveTypes.Binary,
	} {
		for j, columnType := range []iceberg.Type{
			icebergType,
			&iceberg.ListType{ElementID: 3, Element: icebergType},
			&iceberg.MapType{KeyID: 3, KeyType: iceberg.PrimitiveTypes.String, ValueID: 4, ValueType: icebergType},
			&iceberg.StructType{FieldList: []iceberg.NestedField{{ID: 3, Name: "x", Type: icebergType}}},
		} {
			name := fmt.Sprint("t", i, "_", j)
			createIceberg(t, s, name, iceberg.NestedField{ID: 1, Name: "v", Type: columnType})
			_, scan := scanText(t, s, "b", name)
			_, query := rows(t, s, "SELECT * FROM b."+name, nil)
			_, nanos := rows(t, s, "SELECT * FROM b."+name, &tables.QueryOptions{Nanoseconds: true})
			if (scan == nil) != (query == nil) || (scan == nil) != (nanos == nil) {
				t.Errorf("type %v: scan error %v, query error %v, query error with Nanoseconds %v; want all or none", columnType, scan, query, nanos)
			}
		}
	}
}

// scanText returns the first column of a table as text.
func scanText(t *testing.T, s *tables.Store, bucket, name string) (string, error) {
	t.Helper()
	r, err := s.Bucket(bucket).Table(name).Scan(t.Context(), nil)
	if err != nil {
		return "", err
	}
	defer r.Release()
	text := ""
	for r.Next() {
		for i := range int(r.RecordBatch().NumRows()) {
			text += r.RecordBatch().Column(0).ValueStr(i) + ";"
		}
	}
	return text, r.Err()
}

// lastFile returns the last Parquet file of a store, which must have one.
func lastFile(t *testing.T, s *tables.Store) string {
	t.Helper()
	files := tabletest.Paths(t, s.Dir(), ".parquet")
	if len(files) == 0 {
		t.Fatal("the store has no Parquet file")
	}
	return files[len(files)-1]
}

// truncateFile opens the only Parquet file of a store, so that a test can write other contents.
func truncateFile(t *testing.T, s *tables.Store) *os.File {
	t.Helper()
	return must.Get(os.Create(lastFile(t, s)))(t)
}

// TestTextsThatAreNotUTF8 checks that statements fail if a file contains a text that is not UTF-8, with DuckDB and
// without it.
func TestTextsThatAreNotUTF8(t *testing.T) {
	s := newStore(t, nil)
	columns := arrow.NewSchema([]arrow.Field{nullable("v", arrow.BinaryTypes.String)}, nil)
	put(t, s, "b", "t", jsonBatch(t, columns, `{"v":"a"}`))
	fold(t, s)
	for range 2 {
		expect(t, s, "SELECT v FROM b.t", nil, "a")
	}
	w := file.NewParquetWriter(truncateFile(t, s), schema.MustGroup(schema.NewGroupNode("root", parquet.Repetitions.Required, schema.FieldList{
		schema.MustPrimitive(schema.NewPrimitiveNodeLogical("v", parquet.Repetitions.Required, schema.StringLogicalType{}, parquet.Types.ByteArray, 0, 1)),
	}, -1)))
	group := must.Get(w.AppendRowGroupChecked())(t)
	column, err := group.NextColumn()
	must.Do(t, err)
	_, err = column.(*file.ByteArrayColumnChunkWriter).WriteBatch([]parquet.ByteArray{[]byte("\xff")}, nil, nil)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"SELECT v FROM b.t", "SELECT v FROM b.t WHERE true"} {
		if got, err := rows(t, s, sql, nil); err == nil || !strings.Contains(strings.ToLower(err.Error()), "utf") {
			t.Errorf("%s = %q, error %v; want an error about UTF-8", sql, got, err)
		}
	}
}

// TestOldListsInFiles checks that lists are read correctly if a file of a table uses Parquet's old list format, which
// has two levels per list. The file has Iceberg's IDs or not.
func TestOldListsInFiles(t *testing.T) {
	for _, ids := range []int32{0, -10} {
		s := newStore(t, nil)
		columns := arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.ListOf(arrow.ListOf(arrow.PrimitiveTypes.Int32)), Nullable: true}}, nil)
		put(t, s, "b", "t", jsonBatch(t, columns, `{"v":[[9]]}`))
		fold(t, s)
		f := truncateFile(t, s)
		inner := schema.MustGroup(schema.NewGroupNodeLogical("array", parquet.Repetitions.Repeated, schema.FieldList{schema.NewInt32Node("array", parquet.Repetitions.Repeated, ids+3)}, schema.NewListLogicalType(), ids+2))
		outer := schema.MustGroup(schema.NewGroupNodeLogical("v", parquet.Repetitions.Optional, schema.FieldList{inner}, schema.NewListLogicalType(), ids+1))
		w := file.NewParquetWriter(f, schema.MustGroup(schema.NewGroupNode("root", parquet.Repetitions.Required, schema.FieldList{outer}, -1)))
		group := must.Get(w.AppendRowGroupChecked())(t)
		column, err := group.NextColumn()
		must.Do(t, err)
		_, err = column.(*file.Int32ColumnChunkWriter).WriteBatch([]int32{1, 2, 3, 4}, []int16{3, 3, 3, 3}, []int16{0, 2, 1, 2})
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		if got, err := scanText(t, s, "b", "t"); err != nil || got != "[[1,2],[3,4]];" {
			t.Errorf("with IDs from %d: scan = %s, error %v; want [[1,2],[3,4]]", ids, got, err)
		}
		expect(t, s, "SELECT v FROM b.t", nil, "[[1,2],[3,4]]") // DuckDB itself would read nulls from the file
		change(t, s, "INSERT INTO t VALUES ([[5]]), ([[6]])", 2)
		change(t, s, "UPDATE t SET v = [[7]] WHERE v = [[5]]", 1)
		change(t, s, "DELETE FROM t WHERE v = [[1, 2], [3, 4]]", 1)
		expect(t, s, "SELECT v FROM b.t ORDER BY v", nil, "[[6]]", "[[7]]")
	}
}
