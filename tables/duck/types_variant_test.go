//go:build cgo

package duck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
)

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
	if _, err := s.Fold(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, err := s.Compact(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, err := s.Bucket("b").Snapshot(t.Context(), "before"); err != nil {
		t.Error(err)
	}
	if _, err := s.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, err := s.Expire(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := s.Bucket("b").Table("t2").Rename(t.Context(), s.Bucket("c"), "moved"); err != nil {
		t.Error(err)
	}
	expect(t, s, "SELECT k FROM b.other", nil, "0")
	if lines, err := rows(t, s, "SHOW ALL TABLES", nil); err != nil || len(lines) != 5 || !strings.Contains(lines[4], "moved") {
		t.Errorf("SHOW ALL TABLES returned %q, error %v; want 5 rows, of which the last contains moved", lines, err)
	}
	if err := s.Bucket("b").Table("t0").Evolve(t.Context(), tables.ColumnChange{Op: tables.DropColumn, Column: "v"}); err != nil {
		t.Error(err)
	}
	expect(t, s, "SELECT count(k) FROM b.t0", nil, "0")
	if err := s.Bucket("b").Delete(t.Context(), "t1"); err != nil {
		t.Error(err)
	}
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
