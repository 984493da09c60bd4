package tables_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestBackup(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), tabletest.FullStore(t)
	b, bucketOne := tabletest.Open(t, t.TempDir(), nil), s.Bucket("one")
	backup := func(name string, unchanged, files int) map[string]string {
		t.Helper()
		copied := must.Get(s.Backup(ctx, b, name))(t)
		if u, f := tabletest.Totals(copied); u != unchanged || f != files {
			t.Errorf("%s: got %d unchanged tables and %d sent files, want %d and %d: %+v", name, u, f, unchanged, files, copied)
		}
		return tabletest.StateOf(t, s)
	}
	monday := backup("monday", 0, 8)
	backup("nothing", 4, 0)
	tabletest.Put(t, bucketOne, "twice", tables.PutAppend, 10)
	must.Do(t, bucketOne.Delete(ctx, "plain"))
	must.Do(t, bucketOne.EditRules(ctx, tables.RuleEdit{Remove: []string{"few"}}))
	tabletest.Put(t, bucketOne, "new", tables.PutAppend, 1)
	tuesday := backup("tuesday", 2, 2)
	// Backing up a change of metadata copies no data.
	must.Do(t, bucketOne.Table("new").ChangeMetadata(ctx, tables.MetadataChange{Set: tables.Metadata{"a": "b"}}))
	backup("metadata", 3, 0)
	must.Fail(t, must.Err(s.Backup(ctx, b, "monday")), tables.ErrExists, "Backup with an existing name")
	if _, err := s.Backup(ctx, b, ""); err == nil {
		t.Error("Backup without a name succeeded, want an error")
	}
	if got, want := tabletest.BackupNames(t, b), `monday of "": 1;monday of "one": 3;nothing of "": 1;nothing of "one": 3;`+
		`tuesday of "": 1;tuesday of "one": 3;metadata of "": 1;metadata of "one": 3;`; got != want {
		t.Errorf("Backups = %s, want %s", got, want)
	}
	tabletest.WantIntact(t, b)
	// Expire keeps the old versions that backups need.
	must.Get(b.Expire(ctx, &tables.MaintainOptions{Grace: -1}))(t)
	must.Get(b.Expire(ctx, &tables.MaintainOptions{Grace: -1}))(t)
	for name, want := range map[string]map[string]string{"monday": monday, "tuesday": tuesday} {
		empty := tabletest.Open(t, t.TempDir(), nil)
		must.Get(empty.RestoreFrom(ctx, b, name))(t)
		tabletest.WantState(t, empty, want)
	}
	// The source store still has most of the files, so a restore sends few.
	tabletest.Put(t, bucketOne, "twice", tables.PutAppend, 11) // stays in the tail
	copied, err := s.RestoreFrom(ctx, b, "tuesday")
	if u, f := tabletest.Totals(copied); err != nil || u != 2 || f != 0 {
		t.Errorf("RestoreFrom = %+v, %v; want 2 unchanged tables and no copied files", copied, err)
	}
	tabletest.WantState(t, s, tuesday)
	bucketName := "one"
	must.Get(s.RestoreFrom(ctx, b, "monday", bucketName))(t)
	tabletest.WantState(t, s, monday)
	must.Fail(t, must.Err(s.RestoreFrom(ctx, b, "sunday")), fs.ErrNotExist, "RestoreFrom of a missing backup")
	tabletest.Put(t, bucketOne, "twice", tables.PutAppend, 12)
	tabletest.Fold(t, s)
	tabletest.WantIntact(t, s)
}

// TestBackupLostEverywhere checks that Backup returns an error if both the store and the backup have lost a file.
func TestBackupLostEverywhere(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, to := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true}), tabletest.Open(t, t.TempDir(), nil)
	for _, name := range []string{"lost", "other"} {
		tabletest.Put(t, s.Bucket(""), name, tables.PutAppend, 1)
	}
	must.Get(s.Backup(ctx, to, "first"))(t)
	for _, store := range []*tables.Store{s, to} {
		must.Do(t, os.Remove(tabletest.TableFiles(t, store, "", "lost")["data"][0]))
	}
	tabletest.Put(t, s.Bucket(""), "other", tables.PutAppend, 2)
	copied, err := s.Backup(ctx, to, "second")
	if !errors.Is(err, tables.ErrDamaged) || !strings.Contains(err.Error(), "verify --dir") || len(copied) != 1 || copied[0].Name != "other" {
		t.Errorf("Backup = %+v, %v, want ErrDamaged and a copy of the other table", copied, err)
	}
	tabletest.WantRows(t, to.Bucket(""), "other", 1, 2)
}

// TestBackupOrigin checks that a store with backups refuses another store's backup, and that a store that was restored
// from it, moved or copied continues the backups. So does a store with tables that are from no backup.
func TestBackupOrigin(t *testing.T) {
	t.Parallel()
	ctx, root := t.Context(), t.TempDir()
	open := func(name string) *tables.Store { return tabletest.Open(t, filepath.Join(root, name), nil) }
	n := 0
	backup := func(s, to *tables.Store, isRelated bool) {
		t.Helper()
		n++
		tabletest.Put(t, s.Bucket("b"), "t", tables.PutReplace, int64(n))
		before := tabletest.StateOf(t, to)
		_, err := s.Backup(ctx, to, fmt.Sprint(n))
		if !isRelated {
			must.Fail(t, err, tables.ErrExists, "backup %d of an unrelated store", n)
			tabletest.WantState(t, to, before)
			return
		}
		must.Do(t, err)
		restored := tabletest.Open(t, t.TempDir(), nil)
		must.Get(restored.RestoreFrom(ctx, to, fmt.Sprint(n)))(t)
		tabletest.WantRows(t, restored.Bucket("b"), "t", int64(n))
	}
	s, b, other := open("store"), open("backups"), open("other")
	backup(s, b, true)
	backup(other, b, false)
	tabletest.Put(t, other.Bucket("another"), "t", tables.PutAppend, 1)
	if _, err := other.Backup(ctx, b, "x", "another"); !errors.Is(err, tables.ErrExists) {
		t.Errorf("backup of another bucket of another store: error = %v, want ErrExists", err)
	}

	restored, fromRestored := open("restored"), open("backups of restored")
	_, err := restored.RestoreFrom(ctx, b, "1")
	must.Do(t, err)
	backup(restored, b, true)
	backup(restored, fromRestored, true)
	backup(s, fromRestored, false)
	_, err = other.RestoreFrom(ctx, b, "1", "b") // only one bucket
	must.Do(t, err)
	backup(other, b, false)
	for _, from := range []*tables.Store{s, restored} {
		copied := tabletest.Open(t, t.TempDir(), nil)
		must.Get(from.CopyTo(ctx, copied))(t)
		backup(copied, b, true)
		_, err = copied.CopyTo(ctx, other, "b") // other has tables already
		if err == nil {
			t.Error("CopyTo replaced another store's table")
		}
		backup(other, copied, false)
	}
	backup(other, b, false)

	backup(s, b, true)
	must.Do(t, s.Close())
	must.Do(t, os.CopyFS(filepath.Join(root, "plain copy"), os.DirFS(filepath.Join(root, "store"))))
	must.Do(t, os.Rename(filepath.Join(root, "store"), filepath.Join(root, "moved")))
	backup(open("moved"), b, true)
	backup(open("plain copy"), b, true)
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
		for damageName, damage := range tabletest.Damages {
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
				tabletest.Damage(t, path, damage)
				s = tabletest.Open(t, s.Dir(), &tables.Options{NoTail: true})
				restored := must.Get(s.RestoreFrom(ctx, b, "monday"))(t)
				if unchanged, _ := tabletest.Totals(restored); unchanged != 1 {
					t.Errorf("RestoreFrom = %+v, want one unchanged table", restored)
				}
				tabletest.WantIntact(t, s)
				for _, name := range []string{"a", "b"} {
					tabletest.WantRows(t, s.Bucket(""), name, 1, 2, 3)
				}
			})
		}
	}
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

// TestBackupOverOtherTables checks that a backup fails if its destination has tables that are not from a backup, and
// leaves them unchanged.
func TestBackupOverOtherTables(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, dest := tabletest.Open(t, t.TempDir(), nil), tabletest.Open(t, t.TempDir(), nil)
	tabletest.Put(t, s.Bucket(""), "a", tables.PutAppend, 1)
	for _, name := range []string{"b", "a"} {
		tabletest.Put(t, dest.Bucket(""), name, tables.PutAppend, 2)
		must.Fail(t, must.Err(s.Backup(ctx, dest, "monday")), tables.ErrExists, "Backup over tables that are no backup")
		tabletest.WantRows(t, dest.Bucket(""), name, 2)
		must.Do(t, dest.Bucket("").Delete(ctx, name))
	}
	must.Get(s.Backup(ctx, dest, "monday"))(t)
}

// TestBackupDeleteFiles checks that a table with delete files of another program can be backed up and copied after a
// compaction, as the error says.
func TestBackupDeleteFiles(t *testing.T) {
	t.Parallel()
	for kind, version := range map[string]int{"positions": 2, "deletion vectors": 3, "equal rows": 2, "no data file left": 2} {
		t.Run(kind, func(t *testing.T) {
			ctx, s, want := t.Context(), tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true}), []int64{0, 1, 2, 4}
			b, engine := s.Bucket(""), tabletest.NewEngine(t, s, "", "t")
			tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(0, 5)...)
			three := tabletest.Rows(3)
			three.Next()
			switch kind {
			case "equal rows":
				engine.DeleteEqual(three.RecordBatch(), 1)
			case "no data file left": // rewriting the only data file leaves the delete file
				engine.DeleteEqual(three.RecordBatch(), 1)
				engine.Delete(iceberg.AlwaysTrue{})
				tabletest.Put(t, b, "t", tables.PutAppend, want...)
			default:
				engine.MergeOnRead(version)
				engine.Delete(iceberg.EqualTo(iceberg.Reference("n"), int64(3)))
			}
			backups := tabletest.Open(t, t.TempDir(), nil)
			must.Fail(t, must.Err(s.Backup(ctx, backups, "before")), "compact", "backup of a table with delete files")
			tabletest.Compact(t, s)
			tabletest.WantRows(t, b, "t", want...)
			must.Get(s.Backup(ctx, backups, "after"))(t)
			restored, copied := tabletest.Open(t, t.TempDir(), nil), tabletest.Open(t, t.TempDir(), nil)
			must.Get(restored.RestoreFrom(ctx, backups, "after"))(t)
			must.Get(s.CopyTo(ctx, copied))(t)
			for _, store := range []*tables.Store{restored, copied} {
				tabletest.WantRows(t, store.Bucket(""), "t", want...)
			}
			if again := must.Get(s.Compact(ctx, nil))(t); again != (tables.MaintainResult{}) {
				t.Errorf("the second compaction = %+v, want nothing to do", again)
			}
		})
	}
}
