package tables_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	if _, err := s.Backup(ctx, b, "monday"); !errors.Is(err, tables.ErrExists) {
		t.Errorf("Backup with an existing name: error = %v, want ErrExists", err)
	}
	if _, err := s.Backup(ctx, b, ""); err == nil {
		t.Error("Backup without a name succeeded, want an error")
	}
	if got, want := tabletest.BackupNames(t, b), `monday of "": 1;monday of "one": 3;nothing of "": 1;nothing of "one": 3;`+
		`tuesday of "": 1;tuesday of "one": 3;metadata of "": 1;metadata of "one": 3;`; got != want {
		t.Errorf("Backups = %s, want %s", got, want)
	}
	if findings, _ := tabletest.VerifyAll(t, b, tables.VerifyOptions{}); len(findings) > 0 {
		t.Errorf("Verify reported %+v; want none", findings)
	}
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
	if _, err := s.RestoreFrom(ctx, b, "sunday"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("RestoreFrom of a missing backup: error = %v, want fs.ErrNotExist", err)
	}
	tabletest.Put(t, bucketOne, "twice", tables.PutAppend, 12)
	tabletest.Fold(t, s)
	if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) > 0 {
		t.Errorf("Verify reported %+v; want none", findings)
	}
}

const backupKillEnv = "PARTD_TABLES_BACKUP_KILL"

// TestBackupChild is not a test: TestBackupKill runs it in a child process that it kills.
func TestBackupChild(t *testing.T) {
	sourceDir, backupDir, ok := strings.Cut(os.Getenv(backupKillEnv), ",")
	if !ok {
		t.Skip("runs only as a child process of TestBackupKill")
	}
	s, b := tabletest.Open(t, sourceDir, nil), tabletest.Open(t, backupDir, nil)
	fmt.Println("ready")
	must.Get(s.Backup(t.Context(), b, "killed"))(t)
	fmt.Println("done")
}

// TestBackupKill kills backups with kill -9, each after a longer delay, until one completes. Only the completed
// backup must be listed.
func TestBackupKill(t *testing.T) {
	t.Parallel()
	s := tabletest.FullStore(t)
	for i := range 30 {
		tabletest.Put(t, s.Bucket("two"), fmt.Sprint("t", i), tables.PutAppend, int64(i))
	}
	want := tabletest.StateOf(t, s)
	must.Do(t, s.Close())
	dir := filepath.Join(t.TempDir(), "backup")
	killed := 0
	for delay := 20 * time.Millisecond; ; delay *= 2 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBackupChild$", "-test.v")
		cmd.Env = append(os.Environ(), backupKillEnv+"="+s.Dir()+","+dir)
		out := must.Get(cmd.StdoutPipe())(t)
		must.Do(t, cmd.Start())
		output := waitFor(t, out, "ready")
		timer := time.AfterFunc(delay, func() { _ = cmd.Process.Kill() })
		output += waitFor(t, out, "done")
		timer.Stop()
		waitErr := cmd.Wait()
		b := tabletest.Open(t, dir, nil)
		got := tabletest.BackupNames(t, b)
		if got != "" {
			if got != `killed of "": 1;killed of "one": 3;killed of "two": 30;` || killed == 0 {
				t.Errorf("after %d kills, the backups are %q, want backups of three buckets after at least one kill", killed, got)
			}
			restored := tabletest.Open(t, t.TempDir(), nil)
			must.Get(restored.RestoreFrom(t.Context(), b, "killed"))(t)
			tabletest.WantState(t, restored, want)
			if findings, _ := tabletest.VerifyAll(t, b, tables.VerifyOptions{}); len(findings) > 0 {
				t.Errorf("Verify reported %+v; want none", findings)
			}
			return
		}
		if waitErr == nil || delay > time.Minute {
			t.Fatalf("killed after %v: no backup is listed; the child's output: %s", delay, output)
		}
		killed++
		must.Do(t, b.Close())
	}
}

// waitFor reads r up to the given line or the end, and returns the text.
func waitFor(t testing.TB, r io.Reader, line string) (text string) {
	t.Helper()
	for buf := make([]byte, 1); ; {
		if n, err := r.Read(buf); n == 0 || err != nil {
			return text
		}
		if text += string(buf); strings.HasSuffix(text, line+"\n") {
			return text
		}
	}
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
// from it, moved or copied continues the backups.
func TestBackupOrigin(t *testing.T) {
	t.Parallel()
	ctx, root := t.Context(), t.TempDir()
	open := func(name string) *tables.Store { return tabletest.Open(t, filepath.Join(root, name), nil) }
	n := 0
	backup := func(s, to *tables.Store, isRelated bool) {
		t.Helper()
		n++
		tabletest.Put(t, s.Bucket("b"), "t", tables.PutReplace, int64(n))
		_, err := s.Backup(ctx, to, fmt.Sprint(n))
		if !isRelated {
			if !errors.Is(err, tables.ErrExists) {
				t.Errorf("backup %d of an unrelated store: error = %v, want ErrExists", n, err)
			}
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
