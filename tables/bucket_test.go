package tables

import (
	"errors"
	"slices"
	"testing"
)

func bucketNames(t *testing.T, s *Store) (all []string) {
	t.Helper()
	for name, err := range s.Buckets(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name)
	}
	return all
}

// A bucket exists once its first table does, remains when it becomes empty, and is gone when it
// is deleted.
func TestBucketsLife(t *testing.T) {
	s := mustOpen(t, t.TempDir(), nil)
	ctx := t.Context()
	b := s.Bucket("b")
	if _, ok, err := read(ctx, b, "t"); ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := s.DeleteBucket(ctx, "b", true); !errors.Is(err, ErrNotFound) {
		t.Fatalf("a bucket that is not there: %v", err)
	}
	if ok, err := b.Exists(ctx); ok || err != nil {
		t.Fatalf("reading made the bucket: %v", err)
	}
	mustPut(t, b, "t", PutAppend, 1)
	mustPut(t, b, "u", PutAppend, 2)
	mustPut(t, s.Bucket("c"), "t", PutAppend, 3)
	if err := s.DeleteBucket(ctx, "b", false); !errors.Is(err, ErrNotEmpty) {
		t.Fatalf("a bucket with tables: %v", err)
	}
	wantRows(t, b, "t", 1)
	if err := b.Delete(ctx, "t", "u"); err != nil {
		t.Fatal(err)
	}
	if got := bucketNames(t, s); !slices.Equal(got, []string{"b", "c"}) {
		t.Fatalf("%q once b was emptied", got)
	}
	if err := s.DeleteBucket(ctx, "b", false); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteBucket(ctx, "c", true); err != nil {
		t.Fatal(err)
	}
	if got := bucketNames(t, s); len(got) != 0 {
		t.Fatalf("%q once both were deleted", got)
	}
	if _, ok, err := read(ctx, s.Bucket("c"), "t"); ok || err != nil {
		t.Fatal("a table outlived its bucket", err)
	}
}
