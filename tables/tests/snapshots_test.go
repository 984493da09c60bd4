package tables_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestSnapshotOutlivesTables checks that tables can be read and restored from a snapshot after they were replaced,
// compacted, expired or deleted, even after the store is reopened.
func TestSnapshotOutlivesTables(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	for _, name := range []string{"replaced", "deleted", "recreated", "same"} {
		tabletest.Put(t, b, name, tables.PutError, 1)
		tabletest.Put(t, b, name, tables.PutAppend, 2) // stays in the tail
	}
	tabletest.Put(t, b, "none", tables.PutError) // a table without rows or synced metadata
	must.Do(t, b.Table("deleted").ChangeMetadata(t.Context(), tables.MetadataChange{Set: tables.Metadata{"k": "v", "n": 5}, Replace: true}))
	must.Do(t, b.ChangeMetadata(t.Context(), tables.MetadataChange{Set: tables.Metadata{"of": []any{"bucket"}}}))
	tabletest.Snapshot(t, b, "one")

	tabletest.Put(t, b, "replaced", tables.PutReplace, 3)
	tabletest.Put(t, b, "replaced", tables.PutAppend, 4)
	must.Do(t, b.Delete(t.Context(), "deleted", "recreated", "none"))
	tabletest.Put(t, b, "recreated", tables.PutError, 5)
	tabletest.Put(t, b, "later", tables.PutError, 6)
	must.Do(t, b.ChangeMetadata(t.Context(), tables.MetadataChange{Set: tables.Metadata{"more": true}}))
	tabletest.SweepAll(t, s)
	check := func(s *tables.Store) {
		t.Helper()
		b := s.Bucket("b")
		for _, name := range []string{"replaced", "deleted", "recreated", "same"} {
			tabletest.WantRowsAt(t, b, name, tables.AtSnapshot("one"), 1, 2)
		}
		tabletest.WantRowsAt(t, b, "none", tables.AtSnapshot("one"))
		if _, err := tabletest.ReadSnapshot(t.Context(), b, "one", "later"); !errors.Is(err, tables.ErrNotFound) {
			t.Fatalf("read of a table that the snapshot lacks: error = %v, want ErrNotFound", err)
		}
		var names []string
		for info, err := range b.Tables(t.Context(), &tables.Filter{Snapshot: "one", Pattern: "*e*"}) {
			must.Do(t, err)
			if want := map[bool]int64{true: 0, false: 2}[info.Name == "none"]; info.Rows != want {
				t.Errorf("table %s has %d rows in the snapshot, want %d", info.Name, info.Rows, want)
			}
			names = append(names, info.Name)
		}
		if !slices.Equal(names, []string{"deleted", "none", "recreated", "replaced", "same"}) {
			t.Errorf("tables in the snapshot are %q, want deleted, none, recreated, replaced and same", names)
		}
	}
	check(s)
	must.Do(t, s.Close())
	s = tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	check(s)
	b = s.Bucket("b")
	tabletest.WantRows(t, b, "replaced", 3, 4)

	tabletest.Put(t, b, "same", tables.PutAppend, 7) // stays in the tail
	table := b.Table("replaced")
	infoBefore := must.Get(table.Info(t.Context()))(t)
	must.Do(t, b.Restore(t.Context(), "one"))
	checkRestored := func(s *tables.Store) {
		t.Helper()
		b := s.Bucket("b")
		for _, name := range []string{"replaced", "deleted", "recreated", "same"} {
			tabletest.WantRows(t, b, name, 1, 2)
		}
		tabletest.WantRows(t, b, "none")
		tabletest.WantMissing(t, b, "later")
		m, err := b.Metadata(t.Context())
		if err != nil || fmt.Sprint(m) != "map[of:[bucket]]" {
			t.Errorf("Metadata = %+v, %v; want only of = [bucket]", m, err)
		}
	}
	checkRestored(s)
	infoAfter, err := table.Info(t.Context())
	if err != nil || infoAfter.Version <= infoBefore.Version {
		t.Errorf("after the restore, the version is %d, want it above %d; error: %v", infoAfter.Version, infoBefore.Version, err)
	}
	tabletest.WantRowsAt(t, b, "replaced", tables.AtVersion(infoBefore.Version), 3, 4)
	count := 0
	for info, err := range b.Tables(t.Context(), &tables.Filter{Metadata: tables.Metadata{"n": 5.0}}) {
		must.Do(t, err)
		if count++; info.Name != "deleted" || info.Metadata["k"] != "v" {
			t.Errorf("found table %+v, want deleted with k = v", info)
		}
	}
	if count != 1 {
		t.Errorf("found %d tables by metadata, want 1", count)
	}
	// A restored table can be appended to, folded and compacted, and does not need the snapshot.
	must.Do(t, b.DeleteSnapshot(t.Context(), "one"))
	must.Do(t, b.DeleteSnapshot(t.Context(), "one"))
	tabletest.SweepAll(t, s)
	checkRestored(s)
	for _, name := range []string{"replaced", "deleted", "recreated", "same", "none"} {
		tabletest.Put(t, b, name, tables.PutAppend, 9)
	}
	must.Get(s.Fold(t.Context(), nil))(t)
	tabletest.SweepAll(t, s)
	must.Do(t, s.Close())
	b = tabletest.Open(t, dir, nil).Bucket("b")
	for _, name := range []string{"replaced", "deleted", "recreated", "same"} {
		tabletest.WantRows(t, b, name, 1, 2, 9)
	}
	tabletest.WantRows(t, b, "none", 9)
}

// TestDeleteSnapshots checks that after snapshots are deleted, Expire removes the files that only they needed.
func TestDeleteSnapshots(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("b")
	must.Fail(t, must.Err(b.Snapshot(t.Context(), "")), tables.ErrNotFound, "Snapshot of a missing bucket")
	tabletest.Put(t, b, "a", tables.PutError, 1)
	tabletest.Snapshot(t, b, "x")
	must.Fail(t, must.Err(b.Snapshot(t.Context(), "x")), tables.ErrExists, "Snapshot with an existing name")
	unnamed := []string{tabletest.Snapshot(t, b, ""), tabletest.Snapshot(t, b, "")}
	if _, err := time.Parse("2006-01-02T15:04:05.000000Z", unnamed[0]); err != nil || unnamed[0] == unnamed[1] {
		t.Errorf("names of unnamed snapshots are %q, want two different times; error: %v", unnamed, err)
	}
	all, err := b.Snapshots(t.Context())
	if err != nil || len(all) != 3 || all[0].Name != "x" || all[2].Name != unnamed[1] || all[0].Tables != 1 {
		t.Errorf("Snapshots = %+v, %v; want x with one table, and two unnamed snapshots", all, err)
	}
	table := must.Get(b.Table("a").At(t.Context(), tables.AtSnapshot("x")))(t)
	must.Do(t, b.Delete(t.Context(), "a"))
	tabletest.SweepAll(t, s)
	must.Fail(t, s.DeleteBucket(t.Context(), "b", false), tables.ErrNotEmpty, "DeleteBucket of a bucket with snapshots")
	must.Do(t, b.DeleteSnapshots(t.Context()))
	must.Fail(t, must.Err(tabletest.ReadAll(t.Context(), table, nil)), tables.ErrNotFound, "read of a deleted snapshot")
	must.Fail(t, b.Restore(t.Context(), "x"), tables.ErrNotFound, "Restore of a deleted snapshot")
	if tabletest.SweepAll(t, s) == 0 {
		t.Error("Expire removed no files")
	}
	remaining, err := os.ReadDir(s.Dir() + "/data")
	if err != nil || len(remaining) > 0 {
		t.Errorf("the data directory contains %+v, want it empty; error: %v", remaining, err)
	}
	tabletest.Put(t, b, "a", tables.PutError, 1)
	tabletest.Snapshot(t, b, "x")
	must.Do(t, s.DeleteBucket(t.Context(), "b", true))
	if all, err := b.Snapshots(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("Snapshots = %+v, %v; want none", all, err)
	}
}

// TestSnapshotConsistency takes snapshots while rows are put into two tables in turn, through the tail
// and in commits: a snapshot that contains a put must contain all earlier puts.
func TestSnapshotConsistency(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, FoldBytes: 1 << 14})
	b := s.Bucket("b")
	tabletest.Put(t, b, "x", tables.PutError)
	tabletest.Put(t, b, "y", tables.PutError)
	stop := make(chan struct{})
	var puts sync.WaitGroup
	puts.Go(func() {
		for n := int64(0); ; n += 4 {
			select {
			case <-stop:
				return
			default:
			}
			tabletest.Put(t, b, "x", tables.PutAppend, n)
			tabletest.Put(t, b, "y", tables.PutAppend, n+1)
			if err := s.Update(t.Context(), func(u *tables.Txn) error {
				return errors.Join(u.Put("b", "y", tabletest.Rows(n+2), tables.PutAppend, nil), u.Put("b", "x", tabletest.Rows(n+3), tables.PutAppend, nil))
			}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range tabletest.Rounds(t, "PARTD_SNAPSHOTS", 12) {
		name := tabletest.Snapshot(t, b, "")
		x := must.Get(tabletest.ReadSnapshot(t.Context(), b, name, "x"))(t)
		y := must.Get(tabletest.ReadSnapshot(t.Context(), b, name, "y"))(t)
		got := slices.Sorted(slices.Values(append(x, y...)))
		if !slices.Equal(got, tabletest.Sequence(0, int64(len(got)))) || len(got)%4 == 3 {
			t.Fatalf("snapshot %d has rows %v and %v, want consecutive numbers that end with a complete commit", i, x, y)
		}
	}
	close(stop)
	puts.Wait()
}

func TestSnapshotNames(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("it's \"a\" bücket/..")
	tabletest.Put(t, b, "t%_'", tables.PutError, 1)
	for _, name := range []string{"it's", "a/../b", "%", "_", "\u202e\n", strings.Repeat("x", tables.MaxName), " "} {
		tabletest.Snapshot(t, b, name)
		tabletest.WantRowsAt(t, b, "t%_'", tables.AtSnapshot(name), 1)
	}
	for _, name := range []string{"\xff", "a\x00b", strings.Repeat("x", tables.MaxName+1)} {
		if _, err := b.Snapshot(t.Context(), name); err == nil {
			t.Errorf("Snapshot(%q) succeeded, want an error for the name", name)
		}
	}
	must.Do(t, b.DeleteSnapshot(t.Context(), "%"))
	must.Do(t, b.DeleteSnapshot(t.Context(), ""))
	if all, err := b.Snapshots(t.Context()); err != nil || len(all) != 6 {
		t.Errorf("got %d snapshots (error %v), want 6", len(all), err)
	}
	must.Do(t, b.Restore(t.Context(), "it's"))
}
