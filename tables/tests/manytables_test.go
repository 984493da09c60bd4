package tables_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestManyTables opens, lists, finds and snapshots PARTD_TABLES tables, a multiple of 100. It logs how long each
// operation takes.
func TestManyTables(t *testing.T) {
	n := tabletest.Rounds(t, "PARTD_TABLES", 100)
	dir := t.TempDir()
	s := tabletest.Open(t, dir, &tables.Options{FoldAge: -1, Memory: 1 << 30})
	b := s.Bucket("b")
	for i := range n {
		must.Get(b.Table(fmt.Sprintf("table %05d", i)).Put(t.Context(), tabletest.Rows(1), tables.PutAppend, &tables.PutOptions{Metadata: tables.Metadata{"i": i, "group": i % 100}}))(t)
	}
	logTime := func(label string, f func()) {
		t.Helper()
		start := time.Now()
		f()
		t.Logf("%s: %v", label, time.Since(start).Round(10*time.Microsecond))
	}
	logTime("snapshot that folds a row of each table", func() { tabletest.Snapshot(t, b, "") })
	for range 3 {
		logTime("snapshot", func() { tabletest.Snapshot(t, b, "") })
	}
	must.Do(t, s.Close())
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	logTime("open", func() { s = tabletest.Open(t, dir, &tables.Options{FoldAge: -1}) })
	b = s.Bucket("b")
	count := func(f *tables.Filter) (n int) {
		for _, err := range b.Tables(t.Context(), f) {
			must.Do(t, err)
			n++
		}
		return n
	}
	wantCount := func(got, n int) {
		t.Helper()
		if got != n {
			t.Errorf("found %d tables, want %d", got, n)
		}
	}
	for range 3 {
		logTime("find one table", func() { wantCount(count(&tables.Filter{Metadata: tables.Metadata{"i": n / 2}}), 1) })
		logTime("find 1% of the tables", func() { wantCount(count(&tables.Filter{Metadata: tables.Metadata{"group": 7}}), n/100) })
	}
	logTime("list", func() { wantCount(count(nil), n) })
	all, err := b.Snapshots(t.Context())
	if err != nil || len(all) != 4 || all[0].Tables != n {
		t.Fatalf("Snapshots = %+v, %v; want 4 snapshots of %d tables", all, err, n)
	}
	logTime("list a snapshot", func() { wantCount(count(&tables.Filter{Snapshot: all[0].Name}), n) })
	tabletest.Put(t, b, "table 00007", tables.PutAppend, 2)
	must.Do(t, b.Delete(t.Context(), "table 00009"))
	logTime("restore, with two tables changed", func() { must.Do(t, b.Restore(t.Context(), all[0].Name)) })
	tabletest.WantRows(t, b, "table 00007", 1)
	tabletest.WantRows(t, b, "table 00009", 1)
	wantCount(count(nil), n)
	logTime("delete the snapshots", func() { must.Do(t, b.DeleteSnapshots(t.Context())) })
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("memory held: %d KiB", (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10)
}
