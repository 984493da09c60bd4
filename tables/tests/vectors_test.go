package tables_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestVectors checks that corrections of a table that asks for merge-on-read keep its data files, and write one
// deletion vector for each file with deleted rows, also if the whole file is deleted. Compact must apply the vectors.
// TestModel checks the rows.
func TestVectors(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("")
	for i := range int64(3) {
		tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(10*i, 10)...)
		tabletest.Fold(t, s)
	}
	e := tabletest.NewEngine(t, s, "", "t")
	e.MergeOnRead(3)
	before := tabletest.FilesOf(t, b, "t")
	want := func(vectors int, ns ...int64) {
		t.Helper()
		tabletest.WantRows(t, b, "t", ns...)
		n := 0
		for _, task := range e.Files() {
			n += len(task.DeletionVectorFiles)
		}
		if info, err := b.Table("t").Info(t.Context()); err != nil || n != vectors || info.Rows != int64(len(ns)) {
			t.Errorf("the table has %d vectors and %d rows, error %v; want %d and %d", n, info.Rows, err, vectors, len(ns))
		}
		tabletest.VerifyAll(t, s, tables.VerifyOptions{})
	}
	for range 2 { // the second upsert replaces the first one's vectors
		result, err := b.Table("t").Upsert(t.Context(), tabletest.Rows(5, 15, 200), &tables.UpsertOptions{Keys: []string{"n"}})
		if err != nil || result.Deleted < 2 || result.Written != 3 {
			t.Fatalf("Upsert = %+v, %v; want Deleted 2 or 3 and Written 3", result, err)
		}
	}
	tabletest.DeleteRows(t, b, "t", "n >= 20 and n < 30")
	if after := tabletest.FilesOf(t, b, "t"); !slices.Equal(after[:3], before) {
		t.Errorf("the files are %q, want the first three to stay %q", after, before)
	}
	rows := slices.Concat(tabletest.Sequence(0, 20), []int64{200})
	want(4, rows...) // for three old files, and for the file of the first upsert
	target := tabletest.Open(t, t.TempDir(), nil)
	if _, err := s.CopyTo(t.Context(), target); err == nil || !strings.Contains(err.Error(), "compact") {
		t.Errorf("copying tables with vectors: error %v, want a hint to compact", err)
	}
	tabletest.Compact(t, s)
	want(0, rows...)

	// Position delete files, which other programs wrote in format version 2, cannot be combined with vectors.
	tabletest.Put(t, b, "old", tables.PutAppend, tabletest.Sequence(0, 10)...)
	tabletest.Fold(t, s)
	e = tabletest.NewEngine(t, s, "", "old")
	e.MergeOnRead(2)
	e.Delete(iceberg.EqualTo(iceberg.Reference("n"), int64(3)))
	e.Commit(func(tx *table.Transaction) error { return tx.UpgradeFormatVersion(3) })
	tabletest.DeleteRows(t, b, "old", "n = 4")
	tabletest.WantRows(t, b, "old", 0, 1, 2, 5, 6, 7, 8, 9)
	if info, err := b.Table("old").Info(t.Context()); err != nil || info.Rows != 8 {
		t.Errorf("after a file with deletes was rewritten, the table has %d rows, error %v; want 8", info.Rows, err)
	}
}

// TestVectorsTooLarge checks that files are rewritten if the numbers of the rows to delete need too much memory.
func TestVectorsTooLarge(t *testing.T) {
	const count = 9 << 17 // the numbers may need 1/8 of the memory, with one bit for each row
	s := tabletest.Open(t, t.TempDir(), &tables.Options{Memory: 1 << 20})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(0, count)...)
	tabletest.NewEngine(t, s, "", "t").MergeOnRead(3)
	tabletest.DeleteRows(t, b, "t", "n >= 2")
	tabletest.WantRows(t, b, "t", 0, 1)
}

// TestRowCountAfterForeignDeletes replaces a table's rows after another program deleted some by position. The deletes
// do not apply to the new rows, although the snapshot still counts them.
func TestRowCountAfterForeignDeletes(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(0, 10)...)
	e := tabletest.NewEngine(t, s, "", "t")
	e.MergeOnRead(2)
	e.Delete(iceberg.LessThan(iceberg.Reference("n"), int64(5)))
	tabletest.Put(t, b, "t", tables.PutReplace, 100, 101)
	tabletest.WantRows(t, b, "t", 100, 101)
	if info, err := b.Table("t").Info(t.Context()); err != nil || info.Rows != 2 {
		t.Errorf("Info reports %d rows, error %v; want 2", info.Rows, err)
	}
}
