package tables_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func backupNames(t testing.TB, s *tables.Store) string {
	t.Helper()
	all, err := s.Backups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, b := range all {
		fmt.Fprintf(&text, "%s of %q: %d;", b.Name, b.Bucket, b.Tables)
	}
	return text.String()
}

func TestBackup(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), fullStore(t)
	b, bucketOne := tabletest.Open(t, t.TempDir(), nil), s.Bucket("one")
	backup := func(name string, unchanged, files int) map[string]string {
		t.Helper()
		copied, err := s.Backup(ctx, b, name)
		if err != nil {
			t.Fatal(err)
		}
		if u, f := totals(copied); u != unchanged || f != files {
			t.Errorf("%s: got %d unchanged tables and %d sent files, want %d and %d: %+v", name, u, f, unchanged, files, copied)
		}
		return stateOf(t, s)
	}
	monday := backup("monday", 0, 8)
	backup("nothing", 4, 0)
	tabletest.Put(t, bucketOne, "twice", tables.PutAppend, 10)
	if err := bucketOne.Delete(ctx, "plain"); err != nil {
		t.Fatal(err)
	}
	if err := bucketOne.EditRules(ctx, tables.RuleEdit{Remove: []string{"few"}}); err != nil {
		t.Fatal(err)
	}
	tabletest.Put(t, bucketOne, "new", tables.PutAppend, 1)
	tuesday := backup("tuesday", 2, 2)
	// Backing up a change of metadata copies no data.
	if err := bucketOne.Table("new").ChangeMetadata(ctx, tables.MetadataChange{Set: tables.Metadata{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	backup("metadata", 3, 0)
	if _, err := s.Backup(ctx, b, "monday"); !errors.Is(err, tables.ErrExists) {
		t.Errorf("Backup with an existing name: error = %v, want ErrExists", err)
	}
	if _, err := s.Backup(ctx, b, ""); err == nil {
		t.Error("Backup without a name succeeded, want an error")
	}
	if got, want := backupNames(t, b), `monday of "": 1;monday of "one": 3;nothing of "": 1;nothing of "one": 3;`+
		`tuesday of "": 1;tuesday of "one": 3;metadata of "": 1;metadata of "one": 3;`; got != want {
		t.Errorf("Backups = %s, want %s", got, want)
	}
	if findings, _ := tabletest.VerifyAll(t, b, tables.VerifyOptions{}); len(findings) > 0 {
		t.Errorf("Verify reported %+v; want none", findings)
	}
	// Expire keeps the old versions that backups need.
	if _, err := b.Expire(ctx, &tables.MaintainOptions{Grace: -1}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Expire(ctx, &tables.MaintainOptions{Grace: -1}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]map[string]string{"monday": monday, "tuesday": tuesday} {
		empty := tabletest.Open(t, t.TempDir(), nil)
		if _, err := empty.RestoreFrom(ctx, b, name); err != nil {
			t.Fatal(err)
		}
		wantState(t, empty, want)
	}
	// The source store still has most of the files, so a restore sends few.
	tabletest.Put(t, bucketOne, "twice", tables.PutAppend, 11) // stays in the tail
	copied, err := s.RestoreFrom(ctx, b, "tuesday")
	if u, f := totals(copied); err != nil || u != 2 || f != 0 {
		t.Errorf("RestoreFrom = %+v, %v; want 2 unchanged tables and no copied files", copied, err)
	}
	wantState(t, s, tuesday)
	bucketName := "one"
	if _, err := s.RestoreFrom(ctx, b, "monday", bucketName); err != nil {
		t.Fatal(err)
	}
	wantState(t, s, monday)
	if _, err := s.RestoreFrom(ctx, b, "sunday"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("RestoreFrom of a missing backup: error = %v, want fs.ErrNotExist", err)
	}
	tabletest.Put(t, bucketOne, "twice", tables.PutAppend, 12)
	tabletest.Fold(t, s)
	if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) > 0 {
		t.Errorf("Verify reported %+v; want none", findings)
	}
}

// TestBackupInterrupted checks that an interrupted backup is not listed, and that the next backup reuses its files.
func TestBackupInterrupted(t *testing.T) {
	t.Parallel()
	ctx, s, dir := t.Context(), fullStore(t), t.TempDir()
	errInterrupted := errors.New("interrupted")
	for attempt := 2; ; attempt += 2 {
		commits := 0
		b, err := tables.OpenHooked(ctx, dir, &tables.Options{NoTail: true}, tables.Hooks{FS: vfstest.Inject(vfs.OS{}, func(op vfstest.Op, name string) error {
			if strings.HasSuffix(name, ".metadata.json") && op == vfstest.OpSync {
				if commits++; commits > attempt/2-1 {
					return errInterrupted
				}
			}
			return nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		_, backupErr := s.Backup(ctx, b, "one")
		got := backupNames(t, b)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if backupErr == nil {
			if got != `one of "": 1;one of "one": 3;` || attempt == 2 {
				t.Errorf("attempt %d succeeded with backups %q, want a failure in the first attempt, and then backups of both buckets", attempt, got)
			}
			return
		}
		if got != "" || !errors.Is(backupErr, errInterrupted) || attempt > 50 {
			t.Fatalf("attempt %d: backups are %q and the error is %v, want no backups and the injected error", attempt, got, backupErr)
		}
	}
}

// TestExpireInterruptedBackup checks that Expire deletes the temporary snapshots of killed copies, but not of running ones.
func TestExpireInterruptedBackup(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	tabletest.Put(t, s.Bucket("b"), "t", tables.PutAppend, 1)
	for _, name := range []string{tables.WorkName + "backup to killed", "kept"} {
		if _, err := s.Bucket("b").Snapshot(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	tabletest.Put(t, s.Bucket("b"), "t", tables.PutReplace, 2)
	expire := func(grace time.Duration, want ...string) {
		t.Helper()
		if _, err := s.Expire(ctx, &tables.MaintainOptions{Grace: grace}); err != nil {
			t.Error(err)
		}
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
	_, err := s.CopyJobTo(ctx, "backup", backups, nil, func(c *tables.CopyJob, _ []string) error {
		expire(-1, "kept", strings.TrimPrefix(c.SnapshotName(), tables.WorkName))
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	expire(-1, "kept")
}

// TestListDroppedSnapshot drops a snapshot between two pages of its tables. The listing must fail, so that a backup of it is
// not incomplete.
func TestListDroppedSnapshot(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	tabletest.Put(t, s.Bucket("b"), "t", tables.PutAppend, 1)
	if _, err := s.Bucket("b").Snapshot(ctx, "large"); err != nil {
		t.Fatal(err)
	}
	tabletest.ExecInCatalog(t, s.Dir(), `INSERT INTO partd_snapshot_tables WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<1500)
		SELECT namespace, snapshot, name||i, metadata_location, uuid, rows, bytes, files, version, updated_ms, metadata FROM partd_snapshot_tables, n`)
	listed := 0
	err := s.Catalog().ListAt(ctx, tables.NamespaceOf("b"), "large", func(icecat.Listed) bool {
		if listed++; listed == 1 {
			if err := s.Bucket("b").DeleteSnapshot(ctx, "large"); err != nil {
				t.Error(err)
			}
		}
		return true
	})
	if !errors.Is(err, icecat.ErrNoSnapshot) || listed != 1000 {
		t.Errorf("ListAt listed %d tables and returned %v, want 1000 and ErrNoSnapshot", listed, err)
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
	if _, err := s.Backup(t.Context(), b, "killed"); err != nil {
		t.Fatal(err)
	}
	fmt.Println("done")
}

// TestBackupKill kills backups with kill -9, each after a longer delay, until one completes. Only the completed
// backup must be listed.
func TestBackupKill(t *testing.T) {
	t.Parallel()
	s := fullStore(t)
	for i := range 30 {
		tabletest.Put(t, s.Bucket("two"), fmt.Sprint("t", i), tables.PutAppend, int64(i))
	}
	want := stateOf(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "backup")
	killed := 0
	for delay := 20 * time.Millisecond; ; delay *= 2 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBackupChild$", "-test.v")
		cmd.Env = append(os.Environ(), backupKillEnv+"="+s.Dir()+","+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		output := waitFor(t, out, "ready")
		timer := time.AfterFunc(delay, func() { _ = cmd.Process.Kill() })
		output += waitFor(t, out, "done")
		timer.Stop()
		waitErr := cmd.Wait()
		b := tabletest.Open(t, dir, nil)
		got := backupNames(t, b)
		if got != "" {
			if got != `killed of "": 1;killed of "one": 3;killed of "two": 30;` || killed == 0 {
				t.Errorf("after %d kills, the backups are %q, want backups of three buckets after at least one kill", killed, got)
			}
			restored := tabletest.Open(t, t.TempDir(), nil)
			if _, err := restored.RestoreFrom(t.Context(), b, "killed"); err != nil {
				t.Fatal(err)
			}
			wantState(t, restored, want)
			if findings, _ := tabletest.VerifyAll(t, b, tables.VerifyOptions{}); len(findings) > 0 {
				t.Errorf("Verify reported %+v; want none", findings)
			}
			return
		}
		if waitErr == nil || delay > time.Minute {
			t.Fatalf("killed after %v: no backup is listed; the child's output: %s", delay, output)
		}
		killed++
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
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
