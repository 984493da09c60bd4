package tables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

func mustSnapshot(t testing.TB, b *Bucket, name string) string {
	t.Helper()
	name, err := b.Snapshot(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// readAt returns the sorted numbers of a table in a snapshot.
func readAt(ctx context.Context, b *Bucket, snapshot, name string) ([]int64, error) {
	tab, err := b.Table(ctx, name, AtSnapshot(snapshot))
	if err != nil {
		return nil, err
	}
	ns, err := readAll(ctx, tab, nil)
	slices.Sort(ns)
	return ns, err
}

func wantAt(t testing.TB, b *Bucket, snapshot, name string, want ...int64) {
	t.Helper()
	if got, err := readAt(t.Context(), b, snapshot, name); err != nil || !slices.Equal(got, want) {
		t.Fatalf("table %q at %q has rows %v (%v), want %v", name, snapshot, got, err, want)
	}
}

// sweepAll compacts and removes everything that can be removed. It calls Expire twice: the first
// call records the files that the second one removes.
func sweepAll(t testing.TB, s *Store) (removed int) {
	t.Helper()
	_, err := s.Compact(t.Context(), nil)
	mustDo(t, err)
	for range 2 {
		r, err := s.Expire(t.Context(), &MaintainOptions{Grace: -1})
		mustDo(t, err)
		removed += r.FilesRemoved
	}
	return removed
}

// TestSnapshotOutlivesAll replaces, compacts, expires, deletes and sweeps the tables of a
// snapshot. Then it reads and restores all of them, also in another process.
func TestSnapshotOutlivesAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir, &Options{FoldAge: -1})
	b := s.Bucket("b")
	for _, name := range []string{"replaced", "deleted", "anew", "same"} {
		mustPut(t, b, name, PutError, 1)
		mustPut(t, b, name, PutAppend, 2) // stays in the tail
	}
	mustPut(t, b, "none", PutError) // a table without rows or synced metadata
	mustDo(t, b.SetMetadata(t.Context(), "deleted", Metadata{"k": "v", "n": 5}))
	mustDo(t, b.ChangeMetadata(t.Context(), "", MetadataChange{Set: Metadata{"of": []any{"bucket"}}}))
	mustSnapshot(t, b, "one")

	mustPut(t, b, "replaced", PutReplace, 3)
	mustPut(t, b, "replaced", PutAppend, 4)
	mustDo(t, b.Delete(t.Context(), "deleted", "anew", "none"))
	mustPut(t, b, "anew", PutError, 5)
	mustPut(t, b, "later", PutError, 6)
	mustDo(t, b.ChangeMetadata(t.Context(), "", MetadataChange{Set: Metadata{"more": true}}))
	sweepAll(t, s)
	check := func(s *Store) {
		t.Helper()
		b := s.Bucket("b")
		for _, name := range []string{"replaced", "deleted", "anew", "same"} {
			wantAt(t, b, "one", name, 1, 2)
		}
		wantAt(t, b, "one", "none")
		if _, err := readAt(t.Context(), b, "one", "later"); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		var names []string
		for info, err := range b.Tables(t.Context(), &Filter{Snapshot: "one", Pattern: "*e*"}) {
			mustDo(t, err)
			if want := map[bool]int64{true: 0, false: 2}[info.Name == "none"]; info.Rows != want {
				t.Errorf("%s has %d rows", info.Name, info.Rows)
			}
			names = append(names, info.Name)
		}
		if !slices.Equal(names, []string{"anew", "deleted", "none", "replaced", "same"}) {
			t.Error(names)
		}
	}
	check(s)
	mustDo(t, s.Close())
	s = mustOpen(t, dir, &Options{FoldAge: -1})
	check(s)
	b = s.Bucket("b")
	wantRows(t, b, "replaced", 3, 4)

	mustPut(t, b, "same", PutAppend, 7) // stays in the tail
	tab, err := b.Table(t.Context(), "replaced")
	mustDo(t, err)
	before, err := tab.Info(t.Context())
	mustDo(t, err)
	mustDo(t, b.Restore(t.Context(), "one"))
	restored := func(s *Store) {
		t.Helper()
		b := s.Bucket("b")
		for _, name := range []string{"replaced", "deleted", "anew", "same"} {
			wantRows(t, b, name, 1, 2)
		}
		wantRows(t, b, "none")
		if _, ok, err := read(t.Context(), b, "later"); ok || err != nil {
			t.Fatal(ok, err)
		}
		m, err := b.Metadata(t.Context())
		if err != nil || fmt.Sprint(m) != "map[of:[bucket]]" {
			t.Error(m, err)
		}
	}
	restored(s)
	after, err := tab.Info(t.Context())
	if err != nil || after.Version <= before.Version {
		t.Errorf("version %d after %d: %v", after.Version, before.Version, err)
	}
	old, err := b.Table(t.Context(), "replaced", AtVersion(before.Version))
	mustDo(t, err)
	if got, err := readAll(t.Context(), old, nil); err != nil || !slices.Equal(got, []int64{3}) { // 4 was still in the tail
		t.Error(got, err)
	}
	found := 0
	for info, err := range b.Tables(t.Context(), &Filter{Metadata: Metadata{"n": 5.0}}) {
		mustDo(t, err)
		if found++; info.Name != "deleted" || info.Metadata["k"] != "v" {
			t.Error(info)
		}
	}
	if found != 1 {
		t.Errorf("%d found by metadata", found)
	}
	// A restored table is like any other: it can be appended to, folded and compacted, and does
	// not need the snapshot.
	mustDo(t, b.DeleteSnapshot(t.Context(), "one"))
	mustDo(t, b.DeleteSnapshot(t.Context(), "one"))
	sweepAll(t, s)
	restored(s)
	for _, name := range []string{"replaced", "deleted", "anew", "same", "none"} {
		mustPut(t, b, name, PutAppend, 9)
	}
	_, err = s.Fold(t.Context(), nil)
	mustDo(t, err)
	sweepAll(t, s)
	mustDo(t, s.Close())
	b = mustOpen(t, dir, nil).Bucket("b")
	for _, name := range []string{"replaced", "deleted", "anew", "same"} {
		wantRows(t, b, name, 1, 2, 9)
	}
	wantRows(t, b, "none", 9)
}

// TestSnapshotsGo checks that deleting snapshots frees the files that only they need.
func TestSnapshotsGo(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir(), nil)
	b := s.Bucket("b")
	if _, err := b.Snapshot(t.Context(), ""); !errors.Is(err, ErrNotFound) {
		t.Error("a bucket that is not there:", err)
	}
	mustPut(t, b, "a", PutError, 1)
	mustSnapshot(t, b, "x")
	if _, err := b.Snapshot(t.Context(), "x"); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	unnamed := []string{mustSnapshot(t, b, ""), mustSnapshot(t, b, "")}
	if _, err := time.Parse("2006-01-02T15:04:05.000000Z", unnamed[0]); err != nil || unnamed[0] == unnamed[1] {
		t.Error(unnamed, err)
	}
	all, err := b.Snapshots(t.Context())
	if err != nil || len(all) != 3 || all[0].Name != "x" || all[2].Name != unnamed[1] || all[0].Tables != 1 {
		t.Error(all, err)
	}
	tab, err := b.Table(t.Context(), "a", AtSnapshot("x"))
	mustDo(t, err)
	mustDo(t, b.Delete(t.Context(), "a"))
	sweepAll(t, s)
	if err := s.DeleteBucket(t.Context(), "b", false); !errors.Is(err, ErrNotEmpty) {
		t.Error(err)
	}
	mustDo(t, b.DeleteSnapshots(t.Context()))
	if _, err := readAll(t.Context(), tab, nil); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := b.Restore(t.Context(), "x"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if sweepAll(t, s) == 0 {
		t.Error("nothing was removed")
	}
	left, err := os.ReadDir(s.Dir() + "/data")
	if err != nil || len(left) > 0 {
		t.Error(left, err)
	}
	mustPut(t, b, "a", PutError, 1)
	mustSnapshot(t, b, "x")
	mustDo(t, s.DeleteBucket(t.Context(), "b", true))
	if all, err := b.Snapshots(t.Context()); err != nil || len(all) > 0 {
		t.Error(all, err)
	}
}

// TestSnapshotWhole takes snapshots while rows are put into two tables in turn, through the tail
// and by commits: each snapshot has the rows of all puts up to one, and no others.
func TestSnapshotWhole(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir(), &Options{FoldAge: -1, FoldBytes: 1 << 14})
	b := s.Bucket("b")
	mustPut(t, b, "x", PutError)
	mustPut(t, b, "y", PutError)
	stop := make(chan struct{})
	var puts sync.WaitGroup
	puts.Go(func() {
		for n := int64(0); ; n += 4 {
			select {
			case <-stop:
				return
			default:
			}
			mustPut(t, b, "x", PutAppend, n)
			mustPut(t, b, "y", PutAppend, n+1)
			if err := s.Update(t.Context(), func(u *Txn) error {
				return errors.Join(u.Put("b", "y", rowsOf(n+2), PutAppend, nil), u.Put("b", "x", rowsOf(n+3), PutAppend, nil))
			}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range rounds(t, "PARTD_SNAPSHOTS", 12) {
		name := mustSnapshot(t, b, "")
		x, err := readAt(t.Context(), b, name, "x")
		mustDo(t, err)
		y, err := readAt(t.Context(), b, name, "y")
		mustDo(t, err)
		got := slices.Sorted(slices.Values(append(x, y...)))
		if !slices.Equal(got, from(0, int64(len(got)))) || len(got)%4 == 3 {
			t.Fatalf("snapshot %d has %v and %v", i, x, y)
		}
	}
	close(stop)
	puts.Wait()
}
