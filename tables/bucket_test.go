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

// TestBucketLifecycle checks that a bucket exists from its first table on, even when it becomes empty, until it
// is deleted.
func TestBucketLifecycle(t *testing.T) {
	s := mustOpen(t, t.TempDir(), nil)
	ctx := t.Context()
	b := s.Bucket("b")
	if _, ok, err := read(ctx, b, "t"); ok || err != nil {
		t.Fatalf("read of a missing table: found = %v, error = %v; want not found", ok, err)
	}
	if err := s.DeleteBucket(ctx, "b", true); !errors.Is(err, ErrNotFound) {
		t.Fatalf("DeleteBucket of a missing bucket: error = %v, want ErrNotFound", err)
	}
	if ok, err := b.Exists(ctx); ok || err != nil {
		t.Fatalf("after a read, Exists = %v, error %v; want false", ok, err)
	}
	mustPut(t, b, "t", PutAppend, 1)
	mustPut(t, b, "u", PutAppend, 2)
	mustPut(t, s.Bucket("c"), "t", PutAppend, 3)
	if err := s.DeleteBucket(ctx, "b", false); !errors.Is(err, ErrNotEmpty) {
		t.Fatalf("DeleteBucket of a bucket with tables: error = %v, want ErrNotEmpty", err)
	}
	wantRows(t, b, "t", 1)
	if err := b.Delete(ctx, "t", "u"); err != nil {
		t.Fatal(err)
	}
	if got := bucketNames(t, s); !slices.Equal(got, []string{"b", "c"}) {
		t.Fatalf("after b was emptied, the buckets are %q, want b and c", got)
	}
	if err := s.DeleteBucket(ctx, "b", false); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteBucket(ctx, "c", true); err != nil {
		t.Fatal(err)
	}
	if got := bucketNames(t, s); len(got) != 0 {
		t.Fatalf("after both buckets were deleted, the buckets are %q, want none", got)
	}
	if _, ok, err := read(ctx, s.Bucket("c"), "t"); ok || err != nil {
		t.Fatalf("read of a table in a deleted bucket: found = %v, error = %v; want not found", ok, err)
	}
}
