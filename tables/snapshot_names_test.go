package tables_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestSnapshotInOrder checks that a snapshot's rows are in time order if the table's files overlap in time.
func TestSnapshotInOrder(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("b")
	o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}}
	for _, ticks := range [][]tick{{{1, "a", 0, 0}, {4, "a", 1, 0}}, {{0, "a", 2, 0}, {3, "a", 3, 0}, {9, "a", 4, 0}}} {
		tabletest.PutRows(t, b, "t", ticksOf(ticks, 10), tables.PutAppend, o)
	}
	tabletest.Snapshot(t, b, "x")
	table, err := b.Table("t").At(t.Context(), tables.AtSnapshot("x"))
	tabletest.Succeed(t, err)
	rows, err := ticksFrom(table.Scan(t.Context(), nil))
	if err != nil || !slices.IsSortedFunc(rows, func(a, b tick) int { return int(a.ts - b.ts) }) || len(rows) != 5 {
		t.Errorf("scan returned rows %+v, error %v; want 5 rows, sorted by time", rows, err)
	}
	last, err := ticksFrom(table.Scan(t.Context(), &tables.ScanOptions{Last: 2}))
	if err != nil || len(last) != 2 || last[0].ts != 4 {
		t.Errorf("the scan of the last 2 rows returned %+v, error %v; want 2 rows that start at time 4", last, err)
	}
}

// TestSnapshotRenamed checks that a snapshot contains the tail's rows of a table that another program has renamed.
func TestSnapshotRenamed(t *testing.T) {
	t.Parallel()
	for _, isNoticed := range []bool{false, true} { // whether the Store notices the rename before the snapshot
		dir := t.TempDir()
		s := tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
		b := s.Bucket("")
		tabletest.Put(t, b, "a", tables.PutAppend, 0)
		tabletest.Put(t, b, "a", tables.PutAppend, 1)
		tabletest.ExecInCatalog(t, dir, `UPDATE iceberg_tables SET table_name='b' WHERE table_name='a'`)
		if isNoticed {
			if _, ok, err := tabletest.Read(t.Context(), b, "a"); ok || err != nil {
				t.Fatalf("read of a missing table: found = %v, error = %v; want not found", ok, err)
			}
		}
		tabletest.Snapshot(t, b, "x")
		wantInSnapshot(t, b, "x", "b", 0, 1)
	}
}

func TestSnapshotNames(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("it's \"a\" bücket/..")
	tabletest.Put(t, b, "t%_'", tables.PutError, 1)
	for _, name := range []string{"it's", "a/../b", "%", "_", "\u202e\n", strings.Repeat("x", tables.MaxName), " "} {
		tabletest.Snapshot(t, b, name)
		wantInSnapshot(t, b, name, "t%_'", 1)
	}
	for _, name := range []string{"\xff", "a\x00b", strings.Repeat("x", tables.MaxName+1)} {
		if _, err := b.Snapshot(t.Context(), name); err == nil {
			t.Errorf("Snapshot(%q) succeeded, want an error for the name", name)
		}
	}
	tabletest.Succeed(t, b.DeleteSnapshot(t.Context(), "%"))
	tabletest.Succeed(t, b.DeleteSnapshot(t.Context(), ""))
	if all, err := b.Snapshots(t.Context()); err != nil || len(all) != 6 {
		t.Errorf("got %d snapshots (error %v), want 6", len(all), err)
	}
	tabletest.Succeed(t, b.Restore(t.Context(), "it's"))
}
