package tables_test

import (
	"errors"
	"os"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestRestoreOne checks that Restore can restore single tables with rows, columns and metadata, and changes no other
// table.
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
	must.Do(t, b.Restore(t.Context(), "x", "a", "empty"))
	tabletest.WantRows(t, b, "a", 1)
	tabletest.WantRows(t, b, "b", 1, 2)
	tabletest.WantRows(t, b, "empty")
	table := b.Table("a")
	if settings, err := table.Settings(t.Context()); err != nil || settings.Time != "" {
		t.Errorf(`Settings = %+v, %v; want Time ""`, settings, err)
	}
	must.Do(t, b.Restore(t.Context(), "y", "a"))
	schema, err := table.Schema(t.Context())
	if err != nil || !schema.Equal(newSchema) {
		t.Errorf("Schema = %+v, %v; want %v", schema, err, newSchema)
	}
	if settings, err := table.Settings(t.Context()); err != nil || settings.Time != "at" {
		t.Errorf(`Settings = %+v, %v; want Time "at"`, settings, err)
	}
	info := must.Get(table.Info(t.Context()))(t)
	if v, ok := info.Metadata["k"]; !ok || v != nil || info.Rows != 1 {
		t.Errorf("Info = %+v, want one row and a null for k", info)
	}
	must.Do(t, b.Restore(t.Context(), "y", "a"))
	if restored, err := table.Info(t.Context()); err != nil || restored.Version != info.Version+1 {
		t.Errorf("Info = %+v, %v; want a new version although the rows are the same", restored, err)
	}
	if err := b.Restore(t.Context(), "x", "a", "nope"); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("Restore of a missing table: error = %v, want ErrNotFound", err)
	}
	tabletest.WantRows(t, b, "b", 1, 2)
}

// TestRestoredByEngine checks that another engine can change a table that was deleted and restored, and so has files in
// its former location.
func TestRestoredByEngine(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("b")
	tabletest.Put(t, b, "t", tables.PutAppend, 1, 2)
	tabletest.Put(t, b, "t", tables.PutAppend, 3, 4)
	tabletest.Snapshot(t, b, "s")
	must.Do(t, b.Delete(t.Context(), "t"))
	must.Do(t, b.Restore(t.Context(), "s"))
	for _, n := range []int64{1, 3} {
		tabletest.NewEngine(t, s, "b", "t").Delete(iceberg.EqualTo(iceberg.Reference("n"), n))
	}
	tabletest.WantRows(t, b, "t", 2, 4)
}

// TestRestoreDamaged checks that RestoreFrom replaces a table that has not changed since the backup if one of its
// data or metadata files is damaged.
func TestRestoreDamaged(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"data", "manifest", "list"} {
		for damageName, damage := range map[string]func(string) error{
			"missing": os.Remove,
			"flipped bit": func(path string) error {
				b, err := os.ReadFile(path)
				if err == nil {
					b[len(b)/2] ^= 1
					err = os.WriteFile(path, b, 0o600)
				}
				return err
			},
		} {
			t.Run(kind+"/"+damageName, func(t *testing.T) {
				ctx, s := t.Context(), tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
				for _, name := range []string{"a", "b"} {
					tabletest.Put(t, s.Bucket(""), name, tables.PutAppend, 1, 2, 3)
				}
				b := tabletest.Open(t, t.TempDir(), nil)
				must.Get(s.Backup(ctx, b, "monday"))(t)
				if snapshots, err := s.Bucket("").Snapshots(ctx); err != nil || len(snapshots) > 0 {
					t.Errorf("after the backup, the source has snapshots %v, want none; error: %v", snapshots, err)
				}
				path := tabletest.TableFiles(t, s, "", "a")[kind][0]
				must.Do(t, s.Close())
				must.Do(t, damage(path))
				s = tabletest.Open(t, s.Dir(), &tables.Options{NoTail: true})
				restored := must.Get(s.RestoreFrom(ctx, b, "monday"))(t)
				if unchanged, _ := tabletest.Totals(restored); unchanged != 1 {
					t.Errorf("RestoreFrom = %+v, want one unchanged table", restored)
				}
				if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) > 0 {
					t.Errorf("Verify reported %+v; want none", findings)
				}
				for _, name := range []string{"a", "b"} {
					tabletest.WantRows(t, s.Bucket(""), name, 1, 2, 3)
				}
			})
		}
	}
}

// TestBackupOverOtherTables checks that a backup fails if its destination has tables that are not from a backup, and
// leaves them unchanged.
func TestBackupOverOtherTables(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, dest := tabletest.Open(t, t.TempDir(), nil), tabletest.Open(t, t.TempDir(), nil)
	tabletest.Put(t, s.Bucket(""), "a", tables.PutAppend, 1)
	for _, name := range []string{"b", "a"} {
		tabletest.Put(t, dest.Bucket(""), name, tables.PutAppend, 2)
		if _, err := s.Backup(ctx, dest, "monday"); !errors.Is(err, tables.ErrExists) {
			t.Errorf("Backup over tables that are no backup: error = %v, want ErrExists", err)
		}
		tabletest.WantRows(t, dest.Bucket(""), name, 2)
		must.Do(t, dest.Bucket("").Delete(ctx, name))
	}
	must.Get(s.Backup(ctx, dest, "monday"))(t)
}

// TestRestoreTablesFrom checks that a restore of single tables changes no others, and changes nothing if the backup
// lacks one of them.
func TestRestoreTablesFrom(t *testing.T) {
	t.Parallel()
	ctx, s, to := t.Context(), tabletest.Open(t, t.TempDir(), nil), tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("b")
	for _, name := range []string{"a", "deleted", "other"} {
		tabletest.Put(t, b, name, tables.PutAppend, 1)
	}
	must.Get(s.Backup(ctx, to, "monday"))(t)
	for _, name := range []string{"a", "other", "later"} {
		tabletest.Put(t, b, name, tables.PutAppend, 2)
	}
	must.Do(t, b.Delete(ctx, "deleted"))
	must.Do(t, b.ChangeMetadata(ctx, tables.MetadataChange{Set: map[string]any{"k": "later"}}))
	want := func(a ...int64) {
		t.Helper()
		tabletest.WantRows(t, b, "a", a...)
		tabletest.WantRows(t, b, "other", 1, 2)
		tabletest.WantRows(t, b, "later", 2)
		if meta, err := b.Metadata(ctx); err != nil || meta["k"] != "later" {
			t.Errorf("the bucket's metadata is %v, %v, want that of after the backup", meta, err)
		}
	}
	if _, err := s.RestoreTablesFrom(ctx, to, "monday", "b", "a", "later"); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("restoring a table that the backup lacks: %v, want ErrNotFound", err)
	}
	must.Get(s.RestoreTablesFrom(ctx, to, "monday", "b"))(t)
	want(1, 2)
	copied, err := s.RestoreTablesFrom(ctx, to, "monday", "b", "a", "deleted")
	if must.Do(t, err); len(copied) != 2 {
		t.Errorf("RestoreTablesFrom reports %v, want two tables", copied)
	}
	want(1)
	tabletest.WantRows(t, b, "deleted", 1)
}
