package tables_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
)

// TestEmptyPartitionBounds checks the bounds of partition values in manifest lists. Readers take a missing lower bound for
// "all values are null", and do not read the manifest. So the empty text and no bytes are bounds, and a column of nulls or
// NaN has none.
func TestEmptyPartitionBounds(t *testing.T) {
	for i, c := range []struct {
		typ    iceberg.Type
		arrow  arrow.DataType
		rows   string // JSON
		bounds string // of each manifest
	}{
		{iceberg.StringType{}, arrow.BinaryTypes.String, `[{"k":"a"},{"k":""},{"k":"b"}]`, `"" to "b"`},
		{iceberg.StringType{}, arrow.BinaryTypes.String, `[{"k":""}]`, `"" to ""`},
		{iceberg.StringType{}, arrow.BinaryTypes.String, `[{"k":""},{"k":null}]`, `"" to ""`},
		{iceberg.StringType{}, arrow.BinaryTypes.String, `[{"k":null}]`, "none"},
		{iceberg.StringType{}, arrow.BinaryTypes.String, `[{"k":"\udbff\udfff"}]`, `"\U0010ffff" to "\U0010ffff"`},
		{iceberg.BinaryType{}, arrow.BinaryTypes.Binary, `[{"k":""},{"k":"eA=="}]`, `"" to "x"`},
		{iceberg.Int64Type{}, arrow.PrimitiveTypes.Int64, `[{"k":null}]`, "none"},
		{iceberg.Int32Type{}, arrow.PrimitiveTypes.Int32, `[{"k":0}]`, `"\x00\x00\x00\x00" to "\x00\x00\x00\x00"`},
		{iceberg.BooleanType{}, arrow.FixedWidthTypes.Boolean, `[{"k":false}]`, `"\x00" to "\x00"`},
	} {
		s := openTables(t, t.TempDir())
		spec := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "p", Transform: iceberg.IdentityTransform{}})
		meta, err := partdiceberg.NewMetadata(s, iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "k", Type: c.typ}), &spec, table.UnsortedSortOrder, nil)
		if err == nil {
			_, err = partdiceberg.Commit(t.Context(), s, partdiceberg.Change{Bucket: "b", Table: "t", New: meta})
		}
		if err != nil {
			t.Fatal(err)
		}
		rows, _, err := array.RecordFromJSON(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "k", Type: c.arrow, Nullable: true}}, nil), strings.NewReader(c.rows))
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Release()
		reader, err := array.NewRecordReader(rows.Schema(), []arrow.RecordBatch{rows})
		if err == nil {
			_, err = s.Bucket("b").Table("t").Put(t.Context(), reader, tables.PutAppend, nil)
		}
		_, foldErr := s.Fold(t.Context(), nil)
		if err = errors.Join(err, foldErr); err != nil {
			t.Fatal(err)
		}
		if got := manifestBounds(t, s); got != c.bounds {
			t.Errorf("case %d: %s has the bounds %s, want %s", i, c.rows, got, c.bounds)
		}
	}
}

// manifestBounds returns the bounds of the partition values in the manifests of b.t.
func manifestBounds(t *testing.T, s *tables.Store) string {
	t.Helper()
	var bounds []string
	current, err := partdiceberg.Load(t.Context(), s.Bucket("b").Table("t"), nil)
	if err != nil {
		t.Fatal(err)
	}
	fileIO, err := current.FS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := current.CurrentSnapshot().Manifests(fileIO)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range manifests {
		for _, p := range m.Partitions() {
			if p.LowerBound == nil || p.UpperBound == nil {
				bounds = append(bounds, "none")
			} else {
				bounds = append(bounds, fmt.Sprintf("%q to %q", *p.LowerBound, *p.UpperBound))
			}
		}
	}
	return strings.Join(bounds, ", ")
}
