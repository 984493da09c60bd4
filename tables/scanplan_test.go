package tables_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestScanPlan checks the plan of a table with files and a tail. After another program has added delete
// files, the plan must have NeedsScan set.
func TestScanPlan(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("x")
	tabletest.Put(t, b, "a", tables.PutAppend, 1, 2, 3)
	tabletest.Fold(t, s)
	tabletest.Put(t, b, "a", tables.PutAppend, 4)
	plan := func(files int, tail int64, scanned bool) *tables.ScanPlan {
		t.Helper()
		tab := b.Table("a")
		m, err := tab.ScanPlan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		rows := int64(0)
		for _, r := range m.Tail {
			rows += r.NumRows()
		}
		if len(m.Files) != files || rows != tail || m.NeedsScan != scanned {
			t.Fatalf("ScanPlan has %d files, %d rows in the tail and NeedsScan %v: %+v; want %d, %d, %v", len(m.Files), rows, m.NeedsScan, m.Files, files, tail, scanned)
		}
		return m
	}
	first, repeated := plan(1, 1, false), plan(1, 1, false)
	if first.TailMark != repeated.TailMark || first.TailMark == "" || first.Files[0].Rows != 3 {
		t.Errorf("two plans have TailMark %q and %q, want equal marks; files %+v, want one file with 3 rows", first.TailMark, repeated.TailMark, first.Files)
	}
	tabletest.Put(t, b, "a", tables.PutAppend, 5)
	if m := plan(1, 2, false); m.TailMark == first.TailMark {
		t.Errorf("after a put, TailMark is still %q", m.TailMark)
	}

	// The files of open plans are pinned, so that Expire does not remove them.
	if pins, since := s.Commits().Pinned(); !since.Before(time.Now()) || pins != 3 {
		t.Errorf("got %d pins, want 3", pins)
	}
	first.Close()
	first.Close()
	if pins, _ := s.Commits().Pinned(); pins != 2 {
		t.Errorf("after one of three plans was closed, got %d pins, want 2", pins)
	}

	l := libraryCatalog{s.Catalog()}
	base, err := l.LoadTable(t.Context(), table.Identifier{"x", "a"})
	if err != nil {
		t.Fatal(err)
	}
	tx := base.NewTransaction()
	if err := tx.SetProperties(iceberg.Properties{table.WriteDeleteModeKey: table.WriteModeMergeOnRead}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Delete(t.Context(), iceberg.EqualTo(iceberg.Reference("n"), int64(2)), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	m := plan(1, 2, true)
	for maxBytes, want := range map[int64]string{7: "[]", 8: "[[2]]"} { // the second row is deleted
		if got, err := m.DeletedRows(t.Context(), maxBytes); err != nil || fmt.Sprint(got) != want || !m.OnlyDeletes || !m.Files[0].HasDeletes {
			t.Errorf("DeletedRows(%d) = %v, error %v, OnlyDeletes %v, HasDeletes %v; want %s, nil, true, true", maxBytes, got, err, m.OnlyDeletes, m.Files[0].HasDeletes, want)
		}
	}
	r, err := m.Rows(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	var got []int64
	for r.Next() {
		got = append(got, r.RecordBatch().Column(0).(*array.Int64).Int64Values()...)
	}
	if r.Err() != nil || !slices.Equal(got, []int64{1, 3, 4, 5}) {
		t.Errorf("Rows = %v, error %v; want [1 3 4 5]", got, r.Err())
	}
}
