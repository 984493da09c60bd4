package tables_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestBackupInterrupted checks that an interrupted backup is not listed, and that the next backup reuses its files.
func TestBackupInterrupted(t *testing.T) {
	t.Parallel()
	ctx, s, dir := t.Context(), tabletest.FullStore(t), t.TempDir()
	errInterrupted := errors.New("interrupted")
	for attempt := 2; ; attempt += 2 {
		commits := 0
		b := openHooked(t, dir, &tables.Options{NoTail: true}, tables.Hooks{FS: vfstest.Inject(vfs.OS{}, func(op vfstest.Op, name string) error {
			if strings.HasSuffix(name, ".metadata.json") && op == vfstest.OpSync {
				if commits++; commits > attempt/2-1 {
					return errInterrupted
				}
			}
			return nil
		})})
		_, backupErr := s.Backup(ctx, b, "one")
		got := tabletest.BackupNames(t, b)
		must.Do(t, b.Close())
		if backupErr == nil {
			if got != `one of "": 1;one of "one": 3;` || attempt == 2 {
				t.Errorf("attempt %d succeeded with backups %q, want a failure in the first attempt, and then backups of both buckets", attempt, got)
			}
			b, restored := tabletest.Open(t, dir, nil), tabletest.Open(t, t.TempDir(), nil)
			must.Get(restored.RestoreFrom(ctx, b, "one"))(t)
			tabletest.WantState(t, restored, tabletest.StateOf(t, s))
			return
		}
		if got != "" || !errors.Is(backupErr, errInterrupted) || attempt > 50 {
			t.Fatalf("attempt %d: backups are %q and the error is %v, want no backups and the injected error", attempt, got, backupErr)
		}
	}
}

// TestExpireInterruptedBackup checks that Expire deletes the temporary snapshots of killed copies, but not of running
// ones.
func TestExpireInterruptedBackup(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	tabletest.Put(t, s.Bucket("b"), "t", tables.PutAppend, 1)
	for _, name := range []string{tables.WorkName + "backup to killed", "kept"} {
		must.Get(s.Bucket("b").Snapshot(ctx, name))(t)
	}
	tabletest.Put(t, s.Bucket("b"), "t", tables.PutReplace, 2)
	expire := func(grace time.Duration, want ...string) {
		t.Helper()
		must.Get(s.Expire(ctx, &tables.MaintainOptions{Grace: grace}))(t)
		snapshots, err := s.Bucket("b").Snapshots(ctx)
		var names []string
		for _, i := range snapshots {
			names = append(names, strings.TrimPrefix(i.Name, tables.WorkName))
		}
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("after Expire, the snapshots are %q, %v, want %q", names, err, want)
		}
	}
	expire(time.Hour, "backup to killed", "kept") // another process may use the snapshot
	time.Sleep(2 * time.Millisecond)
	s.SetClock(time.Hour)
	expire(time.Millisecond, "backup to killed", "kept") // it may be younger than it seems
	s.SetClock(-time.Hour)
	backups := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	must.Get(s.CopyJobTo(ctx, "backup", backups, nil, func(c *tables.CopyJob, _ []string) error {
		expire(-1, "kept", strings.TrimPrefix(c.SnapshotName(), tables.WorkName))
		return nil
	}))(t)
	expire(-1, "kept")
}

// TestListDroppedSnapshot drops a snapshot between two pages of its tables. The listing must fail, so that a backup of
// it is not incomplete.
func TestListDroppedSnapshot(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	tabletest.Put(t, s.Bucket("b"), "t", tables.PutAppend, 1)
	must.Get(s.Bucket("b").Snapshot(ctx, "large"))(t)
	tabletest.ExecInCatalog(t, s.Dir(), `INSERT INTO partd_snapshot_tables WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<1500)
		SELECT namespace, snapshot, name||i, metadata_location, uuid, rows, bytes, files, version, updated_ms, metadata FROM partd_snapshot_tables, n`)
	listed := 0
	err := s.Catalog().ListAt(ctx, tables.NamespaceOf("b"), "large", func(icecat.Listed) bool {
		if listed++; listed == 1 {
			must.Do(t, s.Bucket("b").DeleteSnapshot(ctx, "large"))
		}
		return true
	})
	if !errors.Is(err, icecat.ErrNoSnapshot) || listed != 1000 {
		t.Errorf("ListAt listed %d tables and returned %v, want 1000 and ErrNoSnapshot", listed, err)
	}
}

// TestBackupMissingFiles checks that Backup and CopyTo send files again that the target has lost, or that have another
// size, although their tables have not changed. In a bucket, local copies of lost objects must not hide the loss.
func TestBackupMissingFiles(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	for i := range 3 {
		tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, int64(i))
	}
	type operation func(to *tables.Store, name string) ([]tables.CopiedTable, error)
	for op, do := range map[string]operation{
		"backup": func(to *tables.Store, name string) ([]tables.CopiedTable, error) { return s.Backup(ctx, to, name) },
		"copy":   func(to *tables.Store, _ string) ([]tables.CopiedTable, error) { return s.CopyTo(ctx, to) },
	} {
		for _, kind := range []string{"data", "manifest", "list", "metadata"} {
			for _, damage := range []string{"missing", "short", "bucket"} {
				t.Run(op+" "+kind+" "+damage, func(t *testing.T) {
					b, to := new(objstore.Memory), tabletest.Open(t, t.TempDir(), nil)
					if damage == "bucket" {
						to = tabletest.Open(t, "s3://bucket/house", tabletest.MemoryWarehouse(t, b))
					}
					must.Get(do(to, "first"))(t)
					files := sampleFiles(t, to, "", "t")
					files["metadata"] = must.Get(to.Catalog().Location(ctx, tables.NamespaceOf(""), "t"))(t)
					path, inDirectory := strings.CutPrefix(files[kind], "file://")
					switch {
					case !inDirectory:
						replaceObject(t, b, strings.TrimPrefix(path, "s3://bucket/house/"), nil)
					case damage == "missing":
						must.Do(t, os.Remove(path))
					default:
						must.Do(t, os.Truncate(path, 0))
					}
					copied := must.Get(do(to, "second"))(t)
					want := map[string]int{"data": 1}[kind]
					if unchanged, sent := tabletest.Totals(copied); unchanged != 0 || sent != want {
						t.Errorf("after the loss: %+v, want %d sent files of a changed table", copied, want)
					}
					findings, _ := tabletest.VerifyAll(t, to, tables.VerifyOptions{})
					if len(findings) > 0 && (op == "copy" || kind == "data") { // an earlier backup keeps its lost manifests
						t.Errorf("Verify reported %+v, want none", findings)
					}
					if copied = must.Get(do(to, "third"))(t); !copied[0].Unchanged {
						t.Errorf("later: %+v, want an unchanged table", copied)
					}
					tabletest.WantRows(t, to.Bucket(""), "t", 0, 1, 2)
					if op == "copy" {
						return
					}
					restored := tabletest.Open(t, t.TempDir(), nil)
					must.Get(restored.RestoreFrom(ctx, to, "second"))(t)
					tabletest.WantRows(t, restored.Bucket(""), "t", 0, 1, 2)
				})
			}
		}
	}
}

// TestRestoreRaced changes the bucket through another Store just before a restore commits: the
// restore must start again, or report that the snapshot is gone.
func TestRestoreRaced(t *testing.T) {
	t.Parallel()
	var beforeCommit func()
	h := tables.Hooks{OnPrepared: func() {
		if beforeCommit != nil {
			do := beforeCommit
			beforeCommit = nil
			do()
		}
	}}
	dir := t.TempDir()
	s := openHooked(t, dir, &tables.Options{Tail: partd.NewDict()}, h)
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
	must.Do(t, b.Restore(t.Context(), "x"))
	for _, name := range []string{"a", "b"} {
		tabletest.WantRows(t, b, name, 1)
	}
	tabletest.WantMissing(t, b, "c")
	tabletest.Put(t, b, "a", tables.PutAppend, 2)
	beforeCommit = func() {
		must.Do(t, otherStore.Bucket("").DeleteSnapshots(t.Context()))
		tabletest.SweepAll(t, otherStore)
	}
	must.Fail(t, b.Restore(t.Context(), "x"), tables.ErrNotFound, "Restore of a deleted snapshot")
	tabletest.WantRows(t, b, "a", 1, 2)
	tabletest.Snapshot(t, b, "x")
	tabletest.Put(t, b, "a", tables.PutReplace, 3)
	beforeCommit = func() { // deletes the snapshot, and then takes another one of the same name
		must.Do(t, otherStore.Bucket("").DeleteSnapshots(t.Context()))
		tabletest.Put(t, otherStore.Bucket(""), "a", tables.PutAppend, 4)
		tabletest.Snapshot(t, otherStore.Bucket(""), "x")
	}
	must.Do(t, b.Restore(t.Context(), "x"))
	tabletest.WantRows(t, b, "a", 3, 4)
}

// TestRestoreIDs checks that a store that was restored or copied knows the IDs of exactly the puts and statements that
// it contains: a repetition of a put changes nothing, and a put that the restore discarded is stored.
func TestRestoreIDs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	put := func(s *tables.Store, id string, n int64) {
		t.Helper()
		tabletest.PutRows(t, s.Bucket(""), "t", tabletest.Rows(n), tables.PutAppend, &tables.PutOptions{ID: id})
	}
	e := &rowsEngine{query: func(context.Context) []int64 { return []int64{2, 3} }}
	open := func() *tables.Store {
		return tabletest.Open(t, t.TempDir(), &tables.Options{Engine: e, FoldAge: -1})
	}
	// fill puts the rows that backups contain. The last ID is in the tail when the copy begins.
	fill := func(s *tables.Store) {
		put(s, "a", 1)
		if r, err := s.Exec(ctx, "INSERT INTO t SELECT n FROM u", &tables.ExecOptions{ID: "b"}); err != nil || r.Rows != 2 {
			t.Errorf("INSERT changed %d rows, %v; want 2", r.Rows, err)
		}
		put(s, "c", 4)
	}
	for name, copied := range map[string]func(s *tables.Store) *tables.Store{
		"backup, restored elsewhere": func(s *tables.Store) *tables.Store {
			b, to := open(), open()
			for _, name := range []string{"first", "second"} { // the first has other IDs
				must.Get(s.Backup(ctx, b, name))(t)
				put(s, "later", 9)
			}
			must.Do(t, s.Bucket("").Delete(ctx, "t"))
			tabletest.Put(t, s.Bucket(""), "other", tables.PutAppend, 1)
			must.Get(s.Backup(ctx, b, "third"))(t) // deletes the table
			must.Get(to.RestoreFrom(ctx, b, "first"))(t)
			return to
		},
		"backup, restored in place": func(s *tables.Store) *tables.Store {
			b := open()
			must.Get(s.Backup(ctx, b, "monday"))(t)
			put(s, "later", 9)
			must.Get(s.RestoreFrom(ctx, b, "monday"))(t)
			return s
		},
		"unchanged since the backup": func(s *tables.Store) *tables.Store {
			b := open()
			must.Get(s.Backup(ctx, b, "monday"))(t)
			must.Get(s.RestoreFrom(ctx, b, "monday"))(t)
			return s
		},
		"copy": func(s *tables.Store) *tables.Store {
			to := open()
			must.Get(s.CopyTo(ctx, to))(t)
			return to
		},
		"snapshot of a deleted table": func(s *tables.Store) *tables.Store {
			tabletest.Snapshot(t, s.Bucket(""), "before")
			put(s, "later", 9)
			tabletest.Fold(t, s)
			must.Do(t, s.Bucket("").Delete(ctx, "t"))
			put(s, "later", 9)
			must.Do(t, s.Bucket("").Restore(ctx, "before"))
			return s
		},
		"snapshots in place": func(s *tables.Store) *tables.Store {
			tabletest.Snapshot(t, s.Bucket(""), "before")
			put(s, "later", 9)
			tabletest.Snapshot(t, s.Bucket(""), "after")
			must.Do(t, s.Bucket("").Restore(ctx, "before"))
			put(s, "lost", 8)
			must.Do(t, s.Bucket("").Restore(ctx, "after"))
			put(s, "later", 9)
			tabletest.WantRows(t, s.Bucket(""), "t", 1, 2, 3, 4, 9)
			put(s, "lost", 8)
			tabletest.WantRows(t, s.Bucket(""), "t", 1, 2, 3, 4, 8, 9)
			must.Do(t, s.Bucket("").Restore(ctx, "before"))
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open()
			fill(s)
			s = copied(s)
			tabletest.WantRows(t, s.Bucket(""), "t", 1, 2, 3, 4)
			fill(s)
			tabletest.WantRows(t, s.Bucket(""), "t", 1, 2, 3, 4)
			put(s, "later", 5)
			tabletest.WantRows(t, s.Bucket(""), "t", 1, 2, 3, 4, 5)
		})
	}
}
