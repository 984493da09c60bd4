package tables

import (
	"errors"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// TestRestoreOne checks that Restore can restore single tables with rows, columns and metadata, and changes no other table.
func TestRestoreOne(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir(), nil)
	b := s.Bucket("")
	mustPut(t, b, "a", PutError, 1)
	mustPut(t, b, "b", PutError, 1)
	mustPut(t, b, "empty", PutError)
	mustSnapshot(t, b, "x")
	newSchema := arrow.NewSchema([]arrow.Field{{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Nanosecond}, Nullable: true}}, nil)
	r := array.NewRecordBuilder(memory.DefaultAllocator, newSchema)
	r.Field(0).(*array.TimestampBuilder).Append(1)
	if _, err := b.Table("a").Put(t.Context(), oneBatch(r.NewRecordBatch()), PutReplace, &PutOptions{Metadata: Metadata{"k": nil}, Settings: &Settings{Time: "at"}}); err != nil {
		t.Fatal(err)
	}
	mustPut(t, b, "b", PutAppend, 2)
	mustPut(t, b, "empty", PutAppend, 2)
	mustSnapshot(t, b, "y")
	mustSucceed(t, b.Restore(t.Context(), "x", "a", "empty"))
	wantRows(t, b, "a", 1)
	wantRows(t, b, "b", 1, 2)
	wantRows(t, b, "empty")
	table := b.Table("a")
	if settings, err := table.Settings(t.Context()); err != nil || settings.Time != "" {
		t.Errorf(`Settings = %+v, %v; want Time ""`, settings, err)
	}
	mustSucceed(t, b.Restore(t.Context(), "y", "a"))
	schema, err := table.Schema(t.Context())
	if err != nil || !schema.Equal(newSchema) {
		t.Errorf("Schema = %+v, %v; want %v", schema, err, newSchema)
	}
	if settings, err := table.Settings(t.Context()); err != nil || settings.Time != "at" {
		t.Errorf(`Settings = %+v, %v; want Time "at"`, settings, err)
	}
	info, err := table.Info(t.Context())
	mustSucceed(t, err)
	if v, ok := info.Metadata["k"]; !ok || v != nil || info.Rows != 1 {
		t.Errorf("Info = %+v, want one row and a null for k", info)
	}
	mustSucceed(t, b.Restore(t.Context(), "y", "a"))
	if restored, err := table.Info(t.Context()); err != nil || restored.Version != info.Version+1 {
		t.Errorf("Info = %+v, %v; want a new version although the rows are the same", restored, err)
	}
	if err := b.Restore(t.Context(), "x", "a", "nope"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Restore of a missing table: error = %v, want ErrNotFound", err)
	}
	wantRows(t, b, "b", 1, 2)
}

// TestRestoreRaced changes the bucket through another Store just before a restore commits: the
// restore must start again, or report that the snapshot is gone.
func TestRestoreRaced(t *testing.T) {
	t.Parallel()
	var beforeCommit func()
	h := hooks{fs: vfs.OS{}, onPrepared: func() {
		if beforeCommit != nil {
			do := beforeCommit
			beforeCommit = nil
			do()
		}
	}}
	dir := t.TempDir()
	s, err := open(t.Context(), dir, &Options{Tail: partd.NewDict()}, h)
	mustSucceed(t, err)
	defer s.Close() //nolint:errcheck // the test is over
	b := s.Bucket("")
	otherStore := mustOpen(t, dir, &Options{NoTail: true})
	mustPut(t, b, "a", PutError, 1)
	mustPut(t, b, "b", PutError, 1)
	mustSnapshot(t, b, "x")
	mustPut(t, b, "a", PutAppend, 2)
	beforeCommit = func() {
		mustPut(t, otherStore.Bucket(""), "b", PutAppend, 2)
		mustPut(t, otherStore.Bucket(""), "c", PutAppend, 2)
	}
	mustSucceed(t, b.Restore(t.Context(), "x"))
	for _, name := range []string{"a", "b"} {
		wantRows(t, b, name, 1)
	}
	if _, ok, err := read(t.Context(), b, "c"); ok || err != nil {
		t.Errorf("read of a missing table: found = %v, error = %v; want not found", ok, err)
	}
	mustPut(t, b, "a", PutAppend, 2)
	beforeCommit = func() {
		mustSucceed(t, otherStore.Bucket("").DeleteSnapshots(t.Context()))
		sweepAll(t, otherStore)
	}
	if err := b.Restore(t.Context(), "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Restore of a deleted snapshot: error = %v, want ErrNotFound", err)
	}
	wantRows(t, b, "a", 1, 2)
	mustSnapshot(t, b, "x")
	mustPut(t, b, "a", PutReplace, 3)
	beforeCommit = func() { // deletes the snapshot, and then takes another one of the same name
		mustSucceed(t, otherStore.Bucket("").DeleteSnapshots(t.Context()))
		mustPut(t, otherStore.Bucket(""), "a", PutAppend, 4)
		mustSnapshot(t, otherStore.Bucket(""), "x")
	}
	mustSucceed(t, b.Restore(t.Context(), "x"))
	wantRows(t, b, "a", 3, 4)
}
