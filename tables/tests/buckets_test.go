package tables_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func bucketNames(t *testing.T, s *tables.Store) (all []string) {
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
	s := tabletest.Open(t, t.TempDir(), nil)
	ctx := t.Context()
	b := s.Bucket("b")
	if _, ok, err := tabletest.Read(ctx, b, "t"); ok || err != nil {
		t.Fatalf("read of a missing table: found = %v, error = %v; want not found", ok, err)
	}
	if err := s.DeleteBucket(ctx, "b", true); !errors.Is(err, tables.ErrNotFound) {
		t.Fatalf("DeleteBucket of a missing bucket: error = %v, want ErrNotFound", err)
	}
	if ok, err := b.Exists(ctx); ok || err != nil {
		t.Fatalf("after a read, Exists = %v, error %v; want false", ok, err)
	}
	tabletest.Put(t, b, "t", tables.PutAppend, 1)
	tabletest.Put(t, b, "u", tables.PutAppend, 2)
	tabletest.Put(t, s.Bucket("c"), "t", tables.PutAppend, 3)
	if err := s.DeleteBucket(ctx, "b", false); !errors.Is(err, tables.ErrNotEmpty) {
		t.Fatalf("DeleteBucket of a bucket with tables: error = %v, want ErrNotEmpty", err)
	}
	tabletest.WantRows(t, b, "t", 1)
	must.Do(t, b.Delete(ctx, "t", "u"))
	if got := bucketNames(t, s); !slices.Equal(got, []string{"b", "c"}) {
		t.Fatalf("after b was emptied, the buckets are %q, want b and c", got)
	}
	must.Do(t, s.DeleteBucket(ctx, "b", false))
	must.Do(t, s.DeleteBucket(ctx, "c", true))
	if got := bucketNames(t, s); len(got) != 0 {
		t.Fatalf("after both buckets were deleted, the buckets are %q, want none", got)
	}
	if _, ok, err := tabletest.Read(ctx, s.Bucket("c"), "t"); ok || err != nil {
		t.Fatalf("read of a table in a deleted bucket: found = %v, error = %v; want not found", ok, err)
	}
}

// TestBucketsAsJSON checks the JSON encoding of Buckets, including the forms that older servers accept: null, and a
// single bucket as a string.
func TestBucketsAsJSON(t *testing.T) {
	for _, c := range []struct {
		buckets tables.Buckets
		text    string
	}{{nil, `null`}, {tables.Buckets{""}, `""`}, {tables.Buckets{"NYSE"}, `"NYSE"`}, {tables.Buckets{"NYSE", ""}, `["NYSE",""]`}} {
		text, err := json.Marshal(c.buckets)
		if err != nil || string(text) != c.text {
			t.Errorf("Marshal(%q) = %s, %v, want %s", []string(c.buckets), text, err, c.text)
		}
		var o tables.MaintainOptions
		if err := json.Unmarshal([]byte(`{"bucket":`+c.text+`}`), &o); err != nil || !slices.Equal(o.Buckets, c.buckets) {
			t.Errorf("Unmarshal(%s) = %q, %v, want %q", c.text, []string(o.Buckets), err, []string(c.buckets))
		}
	}
	if err := new(tables.Buckets).UnmarshalJSON([]byte(`7`)); err == nil {
		t.Error("UnmarshalJSON of a number succeeded, want an error")
	}
}

func TestFoldOfSeveralBuckets(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), nil)
	for _, name := range []string{"a", "b", "c"} {
		tabletest.Put(t, s.Bucket(name), "t", tables.PutAppend, 1, 2)
	}
	r, err := s.Fold(t.Context(), &tables.MaintainOptions{Buckets: tables.Buckets{"a", "c"}})
	if err != nil || r.Tables != 2 || r.Rows != 4 {
		t.Fatalf("Fold = %+v, %v; want Tables 2 and Rows 4", r, err)
	}
	if _, err := s.Fold(t.Context(), &tables.MaintainOptions{Buckets: tables.Buckets{"a", "c"}, Tables: []string{"t"}}); err == nil {
		t.Error("Fold of a table in two buckets succeeded, want an error")
	}
	r, err = s.Fold(t.Context(), nil)
	if err != nil || r.Tables != 1 {
		t.Fatalf("Fold = %+v, %v; want Tables 1", r, err)
	}
}
