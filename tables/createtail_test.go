package tables

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// TestCreateInTail checks that a small append that creates a table, and syncs no file, survives a power loss. Other
// Stores see an empty table until the rows are folded (moved into data files).
func TestCreateInTail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir, &Options{FoldAge: -1})
	b := s.Bucket("")
	put := func(n int64, id string) {
		t.Helper()
		if v, err := b.Table("a").Put(t.Context(), rowsOf(n), PutAppend, &PutOptions{ID: id, Metadata: Metadata{"k": fmt.Sprint(n)}}); v != 1 || err != nil {
			t.Fatalf("Put = version %+v, error %v; want version 1", v, err)
		}
	}
	put(1, "x")
	put(1, "x")
	put(2, "")
	otherStore := mustOpen(t, dir, &Options{NoTail: true})
	wantRows(t, otherStore.Bucket(""), "a")
	cur, err := s.cat.Load(t.Context(), defaultNamespace, "a")
	if err != nil {
		t.Fatal(err)
	}
	file := cur.MetadataLocation()[len("file://"):]
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A power loss may remove or truncate a file that was not synced.
	for _, loseFile := range []func() error{func() error { return os.Remove(file) }, func() error { return os.Truncate(file, 100) }} {
		if err := loseFile(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir, &Options{FoldAge: -1})
		b = s.Bucket("")
		wantRows(t, b, "a", 1, 2)
		for info, err := range b.Tables(t.Context(), nil) {
			if err != nil || info.Rows != 2 || info.Version != 1 || info.Metadata["k"] != "1" {
				t.Fatalf("listing yielded %+v, error %v; want 2 rows, version 1 and metadata k of the first put", info, err)
			}
		}
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s = mustOpen(t, dir, &Options{FoldAge: -1})
	b = s.Bucket("")
	if r, err := s.Fold(t.Context(), nil); err != nil || r.Rows != 2 {
		t.Fatalf("Fold = %+v, %v; want Rows 2", r, err)
	}
	repeatPut := func() Version {
		v, err := b.Table("a").Put(t.Context(), rowsOf(1), PutAppend, &PutOptions{ID: "x"})
		_ = err
		return v
	}
	if v := repeatPut(); v != 1 {
		t.Fatalf("repeated put returned version %d, want 1", v)
	}
	wantRows(t, b, "a", 1, 2)
	wantRows(t, otherStore.Bucket(""), "a", 1, 2)
}

// TestConcurrentCreates checks that no row is lost if Stores with separate tails create the same tables concurrently.
func TestConcurrentCreates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stores []*Store
	for range 3 {
		stores = append(stores, mustOpen(t, dir, &Options{Tail: &memTail{values: map[string][]byte{}, around: func() {}}, FoldAge: -1}))
	}
	const tables = 10
	var g sync.WaitGroup
	for i, s := range stores {
		g.Go(func() {
			for n := range tables {
				if _, err := s.Bucket("").Table(fmt.Sprint(n)).Put(t.Context(), rowsOf(int64(i)), PutAppend, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	g.Wait()
	for _, s := range stores {
		if _, err := s.Fold(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	for n := range tables {
		got, _, err := read(t.Context(), stores[0].Bucket(""), fmt.Sprint(n))
		if err != nil || len(got) != len(stores) || got[0]+got[1]+got[2] != 3 {
			t.Fatalf("table %d has rows %v, error %v; want one row from each store", n, got, err)
		}
	}
}
