package tables_test

import (
	"strconv"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// createIceberg creates table "t" as another program would.
func createIceberg(t *testing.T, b *tables.Bucket, columns *iceberg.Schema, spec *iceberg.PartitionSpec, formatVersion int) {
	t.Helper()
	meta, err := table.NewMetadata(columns, spec, table.UnsortedSortOrder, b.Store().Catalog().NewLocation(), iceberg.Properties{"format-version": strconv.Itoa(formatVersion)})
	if err != nil {
		t.Fatal(err)
	}
	change := &icecat.Change{Namespace: tables.NamespaceOf(b.Name()), Name: "t", New: meta, IOs: []*icecat.FileIO{b.Store().Catalog().NewIO()}}
	if err := b.Store().Catalog().Commit(t.Context(), nil, change); err != nil {
		t.Fatal(err)
	}
}

// TestRowIDsAfterUpgrade checks that rows have unique IDs after a column change upgrades their table to format version 3.
func TestRowIDsAfterUpgrade(t *testing.T) {
	t.Parallel()
	add := tables.ColumnChange{Op: tables.AddColumn, Column: "at", Type: tables.ColumnTypeOf(arrow.FixedWidthTypes.Timestamp_ns)}
	for name, change := range map[string]func(b *tables.Bucket) error{
		"append":                      func(b *tables.Bucket) error { tabletest.Put(t, b, "t", tables.PutAppend, 41, 42); return nil },
		"append to a merged manifest": func(b *tables.Bucket) error { tabletest.Put(t, b, "t", tables.PutAppend, 41, 42); return nil },
		"delete": func(b *tables.Bucket) error {
			_, err := b.Table("t").DeleteRows(t.Context(), tabletest.ParseFilter(t, "n = 1 or n = 12"))
			return err
		},
		"compact": func(b *tables.Bucket) error { _, err := b.Store().Compact(t.Context(), nil); return err },
		"upsert": func(b *tables.Bucket) error {
			_, err := b.Table("t").Upsert(t.Context(), tabletest.Rows(1, 30), &tables.UpsertOptions{Keys: []string{"n"}})
			return err
		},
		"restore": func(b *tables.Bucket) error { return b.Restore(t.Context(), "old") },
	} {
		t.Run(name, func(t *testing.T) {
			b := tabletest.BucketWithoutTail(t)
			tabletest.Put(t, b, "t", tables.PutAppend, 1, 2, 3)
			tabletest.Put(t, b, "t", tables.PutAppend, 11, 12, 13)
			if name == "append to a merged manifest" {
				setProperty(t, b, "commit.manifest.min-count-to-merge", "2")
			}
			tabletest.Snapshot(t, b, "old")
			if err := b.Table("t").Evolve(t.Context(), add); err != nil {
				t.Fatal(err)
			}
			if err := change(b); err != nil {
				t.Fatal(err)
			}
			lineageOf(t, b)
			tabletest.Put(t, b, "t", tables.PutAppend, 21, 22, 23, 24)
			tabletest.Put(t, b, "t", tables.PutAppend, 31)
			lineageOf(t, b)
		})
	}
}

// setProperty sets a property of b's table as another program would.
func setProperty(t *testing.T, b *tables.Bucket, key, value string) {
	t.Helper()
	v, err := b.Table("t").View(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := table.UpdateTableMetadata(v.Table().Metadata(), []table.Update{table.NewSetPropertiesUpdate(iceberg.Properties{key: value})}, "")
	if err != nil {
		t.Fatal(err)
	}
	change := &icecat.Change{Namespace: tables.NamespaceOf(b.Name()), Name: "t", Base: v.Table(), New: meta, IOs: []*icecat.FileIO{b.Store().Catalog().NewIO()}}
	if err := b.Store().Catalog().Commit(t.Context(), nil, change); err != nil {
		t.Fatal(err)
	}
}

// TestNoRowIDs checks that below format version 3, files have only the table's columns after an operation moved rows to
// them.
func TestNoRowIDs(t *testing.T) {
	t.Parallel()
	for version := 1; version <= 2; version++ {
		b := tabletest.BucketWithoutTail(t)
		columns := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64}, iceberg.NestedField{ID: 2, Name: "s", Type: iceberg.PrimitiveTypes.String})
		createIceberg(t, b, columns, iceberg.UnpartitionedSpec, version)
		tabletest.Put(t, b, "t", tables.PutAppend, 1, 2)
		tabletest.Put(t, b, "t", tables.PutAppend, 3)
		if r, err := b.Store().Compact(t.Context(), nil); err != nil || r.FilesAfter != 1 {
			t.Fatalf("version %d: Compact = %+v, %v; want one file", version, r, err)
		}
		tabletest.DeleteRows(t, b, "t", "n = 1")
		v, err := b.Table("t").View(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		if v.Table().Metadata().Version() != version {
			t.Errorf("the table has format version %d, want %d", v.Table().Metadata().Version(), version)
		}
		for _, path := range tabletest.FilesOf(t, b, "t") {
			in, err := v.Table().FS(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			f, err := in.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			r, err := file.NewParquetReader(f)
			if err != nil {
				t.Fatal(err)
			}
			if n := r.MetaData().Schema.NumColumns(); n != 2 {
				t.Errorf("version %d: a file has the columns %v, want n and s", version, r.MetaData().Schema)
			}
			_ = r.Close()
		}
	}
}
