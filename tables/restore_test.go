package tables_test

import (
	"errors"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestRestoreOne checks that Restore can restore single tables with rows, columns and metadata, and changes no other table.
func TestRestoreOne(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("")
	tabletest.Put(t, b, "a", tables.PutError, 1)
	tabletest.Put(t, b, "b", tables.PutError, 1)
	tabletest.Put(t, b, "empty", tables.PutError)
	tabletest.Snapshot(t, b, "x")
	newSchema := arrow.NewSchema([]arrow.Field{{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Nanosecond}, Nullable: true}}, nil)
	r := array.NewRecordBuilder(memory.DefaultAllocator, newSchema)
	r.Field(0).(*array.TimestampBuilder).Append(1)
	tabletest.PutRows(t, b, "a", tabletest.OneBatch(r.NewRecordBatch()), tables.PutReplace, &tables.PutOptions{Metadata: tables.Metadata{"k": nil}, Settings: &tables.Settings{Time: "at"}})
	tabletest.Put(t, b, "b", tables.PutAppend, 2)
	tabletest.Put(t, b, "empty", tables.PutAppend, 2)
	tabletest.Snapshot(t, b, "y")
	tabletest.Succeed(t, b.Restore(t.Context(), "x", "a", "empty"))
	tabletest.WantRows(t, b, "a", 1)
	tabletest.WantRows(t, b, "b", 1, 2)
	tabletest.WantRows(t, b, "empty")
	table := b.Table("a")
	if settings, err := table.Settings(t.Context()); err != nil || settings.Time != "" {
		t.Errorf(`Settings = %+v, %v; want Time ""`, settings, err)
	}
	tabletest.Succeed(t, b.Restore(t.Context(), "y", "a"))
	schema, err := table.Schema(t.Context())
	if err != nil || !schema.Equal(newSchema) {
		t.Errorf("Schema = %+v, %v; want %v", schema, err, newSchema)
	}
	if settings, err := table.Settings(t.Context()); err != nil || settings.Time != "at" {
		t.Errorf(`Settings = %+v, %v; want Time "at"`, settings, err)
	}
	info, err := table.Info(t.Context())
	tabletest.Succeed(t, err)
	if v, ok := info.Metadata["k"]; !ok || v != nil || info.Rows != 1 {
		t.Errorf("Info = %+v, want one row and a null for k", info)
	}
	tabletest.Succeed(t, b.Restore(t.Context(), "y", "a"))
	if restored, err := table.Info(t.Context()); err != nil || restored.Version != info.Version+1 {
		t.Errorf("Info = %+v, %v; want a new version although the rows are the same", restored, err)
	}
	if err := b.Restore(t.Context(), "x", "a", "nope"); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("Restore of a missing table: error = %v, want ErrNotFound", err)
	}
	tabletest.WantRows(t, b, "b", 1, 2)
}

// TestRestoreRaced changes the bucket through another Store just before a restore commits: the
// restore must start again, or report that the snapshot is gone.
func TestRestoreRaced(t *testing.T) {
	t.Parallel()
	var beforeCommit func()
	h := tables.Hooks{FS: vfs.OS{}, OnPrepared: func() {
		if beforeCommit != nil {
			do := beforeCommit
			beforeCommit = nil
			do()
		}
	}}
	dir := t.TempDir()
	s, err := tables.OpenHooked(t.Context(), dir, &tables.Options{Tail: partd.NewDict()}, h)
	tabletest.Succeed(t, err)
	defer s.Close() //nolint:errcheck // the test is over
	b := s.Bucket("")
	otherStore := tabletest.Open(t, dir, &tables.Options{NoTail: true})
	tabletest.Put(t, b, "a", tables.PutError, 1)
	tabletest.Put(t, b, "b", tables.PutError, 1)
	tabletest.Snapshot(t, b, "x")
	tabletest.Put(t, b, "a", tables.PutAppend, 2)
	beforeCommit = func() {
		tabletest.Put(t, otherStore.Bucket(""), "b", tables.PutAppend, 2)
		tabletest.Put(t, otherStore.Bucket(""), "c", tables.PutAppend, 2)
	}
	tabletest.Succeed(t, b.Restore(t.Context(), "x"))
	for _, name := range []string{"a", "b"} {
		tabletest.WantRows(t, b, name, 1)
	}
	if _, ok, err := tabletest.Read(t.Context(), b, "c"); ok || err != nil {
		t.Errorf("read of a missing table: found = %v, error = %v; want not found", ok, err)
	}
	tabletest.Put(t, b, "a", tables.PutAppend, 2)
	beforeCommit = func() {
		tabletest.Succeed(t, otherStore.Bucket("").DeleteSnapshots(t.Context()))
		tabletest.SweepAll(t, otherStore)
	}
	if err := b.Restore(t.Context(), "x"); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("Restore of a deleted snapshot: error = %v, want ErrNotFound", err)
	}
	tabletest.WantRows(t, b, "a", 1, 2)
	tabletest.Snapshot(t, b, "x")
	tabletest.Put(t, b, "a", tables.PutReplace, 3)
	beforeCommit = func() { // deletes the snapshot, and then takes another one of the same name
		tabletest.Succeed(t, otherStore.Bucket("").DeleteSnapshots(t.Context()))
		tabletest.Put(t, otherStore.Bucket(""), "a", tables.PutAppend, 4)
		tabletest.Snapshot(t, otherStore.Bucket(""), "x")
	}
	tabletest.Succeed(t, b.Restore(t.Context(), "x"))
	tabletest.WantRows(t, b, "a", 3, 4)
}

// TestRestoredByEngine checks that another engine can change a table that was deleted and restored, and so has files in its former
// location.
func TestRestoredByEngine(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("b")
	tabletest.Put(t, b, "t", tables.PutAppend, 1, 2)
	tabletest.Put(t, b, "t", tables.PutAppend, 3, 4)
	tabletest.Snapshot(t, b, "s")
	tabletest.Succeed(t, b.Delete(t.Context(), "t"))
	tabletest.Succeed(t, b.Restore(t.Context(), "s"))
	for _, n := range []int64{1, 3} {
		tabletest.NewEngine(t, s, "b", "t").Delete(iceberg.EqualTo(iceberg.Reference("n"), n))
	}
	tabletest.WantRows(t, b, "t", 2, 4)
}
