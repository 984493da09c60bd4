package tables_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// foreignCommit commits to a table as another program would.
func foreignCommit(t *testing.T, s *tables.Store, name string, do func(*table.Transaction) error) {
	t.Helper()
	tab := s.Bucket("").Table(name)
	v, err := tab.View(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer take.Release(v.Rows())
	io := s.Catalog().NewIO()
	tx := s.Catalog().Staged(tables.DefaultNamespace, name, v.Table().Metadata(), v.Table().MetadataLocation(), io).NewTransaction()
	if err := do(tx); err != nil {
		t.Fatal(err)
	}
	meta, err := commit.MetadataOf(tx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Catalog().Commit(t.Context(), nil, &icecat.Change{Namespace: tables.DefaultNamespace, Name: name, Base: v.Table(), New: meta, IOs: []*icecat.FileIO{io}}); err != nil {
		t.Fatal(err)
	}
}

// TestForeignDeletes checks that no reader returns rows that another program deleted with delete files, and
// that later writes do not bring them back.
func TestForeignDeletes(t *testing.T) {
	t.Parallel()
	fields := []arrow.Field{tabletest.Nullable("id", arrow.PrimitiveTypes.Int64), tabletest.Nullable("b", arrow.FixedWidthTypes.Boolean), tabletest.Nullable("s", arrow.BinaryTypes.String)}
	for version, deletes := range map[string]string{"2": "positions", "3": "deletion vectors", "2 ": "equal rows"} {
		t.Run(deletes, func(t *testing.T) {
			s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
			b := s.Bucket("")
			putJSON(t, b, "t", `[{"id":1,"b":null,"s":"a"},{"id":2,"b":true,"s":"b"},{"id":3,"b":false,"s":null},{"id":4,"b":true,"s":"d"}]`, fields...)
			putJSON(t, b, "t", `[{"id":5,"b":null,"s":null},{"id":6,"b":true,"s":"f"}]`, fields...)
			foreignCommit(t, s, "t", func(tx *table.Transaction) error {
				if version == "3" {
					if err := tx.UpgradeFormatVersion(3); err != nil {
						return err
					}
				}
				return tx.SetProperties(iceberg.Properties{table.WriteDeleteModeKey: table.WriteModeMergeOnRead})
			})
			foreignCommit(t, s, "t", func(tx *table.Transaction) error {
				if deletes != "equal rows" {
					return tx.Delete(t.Context(), iceberg.EqualTo(iceberg.Reference("id"), int64(2)), nil)
				}
				schema := arrow.NewSchema([]arrow.Field{fields[0], fields[2]}, nil)
				rows, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(`[{"id":2,"s":"b"},{"id":3,"s":"x"},{"id":6,"s":null}]`))
				if err != nil {
					return err
				}
				files, err := tx.WriteEqualityDeletes(t.Context(), []int{1, 3}, func(yield func(arrow.RecordBatch, error) bool) { yield(rows, nil) })
				if err != nil {
					return err
				}
				return tx.NewRowDelta(nil).AddDeletes(files...).Commit(t.Context())
			})
			tab := b.Table("t")
			v, err := tab.View(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			tasks, err := datafile.Tasks(t.Context(), v.Table())
			if err != nil || len(tasks) != 2 || !datafile.HasDeletes(tasks[0]) {
				t.Fatalf("the commit wrote no delete files: tasks %v, error %v", tasks, err)
			}
			if deletes == "positions" {
				wantFailureNotCached(t, datafile.ToRead(v.Table(), tasks)[0])
			}
			want := `{"b":null,"id":1,"s":"a"},{"b":false,"id":3,"s":null},{"b":true,"id":4,"s":"d"},{"b":null,"id":5,"s":null},{"b":true,"id":6,"s":"f"}`
			wantEqual(t, "all rows", scanJSON(t, b, "t", nil), want)
			wantEqual(t, "one column with a filter", scanJSON(t, b, "t", tabletest.Where(t, "b = true", "s")), `{"s":"d"},{"s":"f"}`)
			wantEqual(t, "the first rows", scanJSON(t, b, "t", &tables.ScanOptions{Limit: 2, Columns: []string{"id"}}), `{"id":1},{"id":3}`)
			for n, want := range map[int64]string{1: `{"id":6}`, 3: `{"id":4},{"id":5},{"id":6}`, 5: `{"id":1},{"id":3},{"id":4},{"id":5},{"id":6}`} {
				wantEqual(t, "the last rows", scanJSON(t, b, "t", &tables.ScanOptions{Last: n, Columns: []string{"id"}}), want)
			}
			tabletest.DeleteRows(t, b, "t", "id = 4")
			want = strings.Replace(want, `{"b":true,"id":4,"s":"d"},`, "", 1)
			wantEqual(t, "after DeleteRows", fmt.Sprint(strings.Count(scanJSON(t, b, "t", nil), "id"), strings.Contains(scanJSON(t, b, "t", nil), `"id":2`)), "4 false")
			tabletest.Compact(t, s)
			all := scanJSON(t, b, "t", nil)
			for _, row := range strings.SplitAfter(want, "},") {
				if !strings.Contains(all, strings.TrimSuffix(row, ",")) {
					t.Errorf("after the compaction, row %s is missing: %s", row, all)
				}
			}
			if strings.Count(all, "id") != 4 {
				t.Errorf("after the compaction, got rows %s, want 4", all)
			}
		})
	}
}

// wantFailureNotCached checks that a failure to read delete files is not cached.
func wantFailureNotCached(t *testing.T, f datafile.File) {
	t.Helper()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Deletes(canceled); err == nil {
		t.Fatal("Deletes with a canceled context succeeded, want an error")
	}
	drop, err := f.Deletes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keep := []bool{true, true, true, true}
	if err := drop.MarkDeleted(0, keep, nil); err != nil || !slices.Equal(keep, []bool{true, false, true, true}) {
		t.Errorf("after a failed read, MarkDeleted kept rows %v, error %v; want all except the second", keep, err)
	}
	keep = []bool{true, true}
	if err := drop.MarkDeleted(1, keep, nil); err != nil || !slices.Equal(keep, []bool{false, true}) {
		t.Errorf("in a batch that begins with the second row, MarkDeleted kept rows %v, error %v; want only the second row of the batch", keep, err)
	}
}
