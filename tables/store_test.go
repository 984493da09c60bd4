package tables_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestForeignTable appends to a table that another program created. The other program, which the test simulates, then
// renames the table. The appended rows, which are not yet in data files, must appear under the new name.
func TestForeignTable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := &tables.Options{Tail: partd.NewDict(), FoldAge: -1}
	s := tabletest.Open(t, dir, o)
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64}, iceberg.NestedField{ID: 2, Name: "s", Type: iceberg.PrimitiveTypes.String})
	meta, err := table.NewMetadata(sc, iceberg.UnpartitionedSpec, table.UnsortedSortOrder, s.Catalog().NewLocation(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Catalog().Commit(t.Context(), nil, &icecat.Change{Namespace: "x", Name: "a", New: meta, IOs: []*icecat.FileIO{s.Catalog().NewIO()}}); err != nil {
		t.Fatal(err)
	}
	tabletest.Put(t, s.Bucket("x"), "a", tables.PutAppend, 1)
	tabletest.Put(t, s.Bucket("x"), "kept", tables.PutAppend, 5)
	reopen := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = tabletest.Open(t, dir, o)
	}
	reopen()
	tabletest.WantRows(t, s.Bucket("x"), "a", 1)
	tabletest.Put(t, s.Bucket("x"), "a", tables.PutAppend, 2)
	db, err := sql.Open("sqlite", filepath.Join(dir, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // the test is over
	if _, err := db.Exec(`UPDATE iceberg_tables SET table_name='b' WHERE table_name='a'`); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := tabletest.Read(t.Context(), s.Bucket("x"), "a"); ok || err != nil {
		t.Fatalf("read of a missing table: found = %v, error = %v; want not found", ok, err)
	}
	tabletest.Put(t, s.Bucket("x"), "a", tables.PutAppend, 9)
	reopen()
	if n := s.Backlog().Rows; n != 4 {
		t.Errorf("before the tables are used, Backlog has %d rows, want 4", n)
	}
	tabletest.WantRows(t, s.Bucket("x"), "b", 1, 2)
	tabletest.Fold(t, s)
	reopen()
	tabletest.WantRows(t, s.Bucket("x"), "b", 1, 2)
	tabletest.WantRows(t, s.Bucket("x"), "a", 9)
}

// TestCatalogFormat checks that Open rejects a catalog with an unknown format.
func TestCatalogFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := tabletest.Open(t, dir, nil)
	tabletest.Succeed(t, s.Close())
	tabletest.ExecInCatalog(t, dir, `UPDATE partd_info SET value='3' WHERE key='format'`)
	if _, err := tables.Open(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "use a newer version") {
		t.Errorf(`Open error = %v, want an error with the text "use a newer version"`, err)
	}
}
