package tables_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestCreateInTail checks that a small append that creates a table, and syncs no file, survives a power loss. Other
// Stores see an empty table until the rows are folded (moved into data files).
func TestCreateInTail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	put := func(n int64, id string) {
		t.Helper()
		if v, err := b.Table("a").Put(t.Context(), tabletest.Rows(n), tables.PutAppend, &tables.PutOptions{ID: id, Metadata: tables.Metadata{"k": fmt.Sprint(n)}}); v != 1 || err != nil {
			t.Fatalf("Put = version %+v, error %v; want version 1", v, err)
		}
	}
	put(1, "x")
	put(1, "x")
	put(2, "")
	otherStore := tabletest.Open(t, dir, &tables.Options{NoTail: true})
	tabletest.WantRows(t, otherStore.Bucket(""), "a")
	cur, err := s.Catalog().Load(t.Context(), tables.DefaultNamespace, "a")
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
		s = tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
		b = s.Bucket("")
		tabletest.WantRows(t, b, "a", 1, 2)
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
	s = tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	b = s.Bucket("")
	if r, err := s.Fold(t.Context(), nil); err != nil || r.Rows != 2 {
		t.Fatalf("Fold = %+v, %v; want Rows 2", r, err)
	}
	repeatPut := func() tables.Version {
		v, err := b.Table("a").Put(t.Context(), tabletest.Rows(1), tables.PutAppend, &tables.PutOptions{ID: "x"})
		_ = err
		return v
	}
	if v := repeatPut(); v != 1 {
		t.Fatalf("repeated put returned version %d, want 1", v)
	}
	tabletest.WantRows(t, b, "a", 1, 2)
	tabletest.WantRows(t, otherStore.Bucket(""), "a", 1, 2)
}

// TestConcurrentCreates checks that no row is lost if Stores with separate tails create the same tables concurrently.
func TestConcurrentCreates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stores []*tables.Store
	for range 3 {
		stores = append(stores, tabletest.Open(t, dir, &tables.Options{Tail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}, FoldAge: -1}))
	}
	const tableCount = 10
	var g sync.WaitGroup
	for i, s := range stores {
		g.Go(func() {
			for n := range tableCount {
				if _, err := s.Bucket("").Table(fmt.Sprint(n)).Put(t.Context(), tabletest.Rows(int64(i)), tables.PutAppend, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	g.Wait()
	for _, s := range stores {
		tabletest.Fold(t, s)
	}
	for n := range tableCount {
		got, _, err := tabletest.Read(t.Context(), stores[0].Bucket(""), fmt.Sprint(n))
		if err != nil || len(got) != len(stores) || got[0]+got[1]+got[2] != 3 {
			t.Fatalf("table %d has rows %v, error %v; want one row from each store", n, got, err)
		}
	}
}
