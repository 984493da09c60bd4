package pull

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/internal/files/content"
)

// TestBackupRecordLost deletes a table's record from the registry. A backup by a node that has the table's
// files must include the table; a backup by another node must fail.
func TestBackupRecordLost(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	must.Do(t, a.reg.nats.delete(t.Context(), "t."+keyOf("x")))
	for _, n := range []*Node{a, b} {
		must.Do(t, n.reg.sync(t.Context(), time.Minute))
	}
	bucket := new(objstore.Memory)
	if done := mustBackup(t, a, bucket, "one"); len(done) != 1 || done[0].Version != 1 {
		t.Errorf("Backup on the holder = %+v, want version 1 of x", done)
	}
	if done, err := b.Backup(t.Context(), bucket, "two", false); !errors.Is(err, ErrSyncFailed) || !strings.Contains(err.Error(), "lost") {
		t.Errorf("Backup on another node = %+v, %v, want an ErrSyncFailed about the lost record", done, err)
	}
}

// TestBackupIsNotStale checks that a backup fails if it cannot get the newest versions,
// even if MaxStaleness allows Load to return older ones.
func TestBackupIsNotStale(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	b := openNode(t, t.TempDir(), Options{Registry: url, MaxStaleness: time.Hour})
	mustSave(t, a, "x", 0, "a=1")
	load(t, b, "x", noBound, noBound)
	mustSave(t, a, "x", 1, "a=2")
	must.Do(t, a.Close())
	must.Do(t, b.reg.sync(t.Context(), time.Minute))
	wantRows(t, b, "x", "0 1\n")
	if done, err := b.Backup(t.Context(), new(objstore.Memory), "one", false); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("Backup = %+v, %v, want ErrSyncFailed", done, err)
	}
}

// TestBackupNamesAndDirectory checks that Backup rejects a name that the bucket cannot store,
// before it sends anything. It also checks that a node's own directory can hold backups, and
// that tables with the same rows share files.
func TestBackupNamesAndDirectory(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	for _, name := range []string{"x", "y"} {
		mustSave(t, a, name, 0, "a=1")
	}
	d := must.Get(objstore.OpenDirectory(a.disk.dir))(t)
	b := objstore.NewCounter(d)
	for _, name := range []string{".new-x", strings.Repeat("é", 127)} {
		if _, err := a.backup(t.Context(), content.Bucket{Bucket: b, Prefix: backupFiles}, name, false); err == nil || b.Requests().Put != 0 {
			t.Errorf("Backup(%q): got error %v and %d objects, want an error and none", name, err, b.Requests().Put)
		}
	}
	if done := mustBackup(t, a, b, ".."); sentFiles(done) != 3 {
		t.Errorf("Backup = %+v, want 1 shared file and 2 manifests", done)
	}
}

// TestSweepDuringRestore checks that a concurrent sweep keeps old files that a restore or a
// save uses again, although no head (a node's list of the versions of a table) refers to them yet.
func TestSweepDuringRestore(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	b := openNode(t, t.TempDir(), Options{Registry: url})
	load(t, b, "x", noBound, noBound)
	bucket := new(objstore.Memory)
	mustBackup(t, a, bucket, "one")
	mustSave(t, a, "x", 0, "a=2")
	load(t, b, "x", noBound, noBound)
	for _, n := range []*Node{a, b} { // remove the backup's version from the head, and make its files old
		h := must.Get(n.disk.head(keyOf("x")))(t)
		h.Old = nil
		text, err := json.Marshal(h)
		if err == nil {
			err = n.disk.replace(n.disk.headFile(keyOf("x")), text)
		}
		must.Do(t, err)
		entries := must.Get(filepath.Glob(n.disk.Path("*")))(t)
		for _, path := range entries {
			past := time.Now().Add(-2 * orphanAge)
			must.Do(t, os.Chtimes(path, past, past))
		}
	}
	var swept atomic.Int64
	addHostilePeer(t, a, func(w http.ResponseWriter, r *http.Request) { // runs a sweep between the restore of the files and the restore of the registry's record
		if strings.HasPrefix(r.URL.Path, headPath) && a.disk.sweep(a.reg.records()) == nil {
			swept.Add(1)
		}
		http.NotFound(w, r)
	})
	must.Get(a.Restore(t.Context(), bucket, "one"))(t)
	v, _, err := b.fetchBase(t.Context(), "x")
	if err == nil {
		err = b.disk.sweep(nil)
	}
	if err != nil || swept.Load() == 0 || v.record.Version != 3 {
		t.Fatalf("fetchBase = version %d, %v after %d sweeps, want version 3 after at least one", v.record.Version, err, swept.Load())
	}
	for i, n := range []*Node{a, b} {
		if f := v.files[0]; !n.disk.Contains(f.HashNamed) {
			t.Errorf("the sweep on node %d removed the file %s", i, f.Hash)
		}
	}
}

// TestRestoreKeepsNewerVersion restores a version that descends from the current one. The
// restored version must keep its number. Otherwise, if a node returned with a version numbered
// between the two, that version would replace the restored one.
func TestRestoreKeepsNewerVersion(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	load(t, b, "x", noBound, noBound)
	mustSave(t, a, "x", 1, "a=2")
	between := a.reg.newestKnown(keyOf("x"))
	mustSave(t, a, "x", 2, "a=3")
	bucket := new(objstore.Memory)
	mustBackup(t, a, bucket, "one")
	must.Do(t, a.Close())
	must.Do(t, b.Forget(t.Context(), "x"))
	must.Do(t, b.reg.sync(t.Context(), time.Minute))
	done, err := b.Restore(t.Context(), bucket, "one")
	if err != nil || done[0].Version != 3 {
		t.Errorf("Restore = %+v, %v, want version 3", done, err)
	}
	if e := b.reg.table(keyOf("x")); e.Version <= between.Version {
		t.Errorf("the registry has version %d, want a newer one than %d", e.Version, between.Version)
	}
	wantRows(t, b, "x", "0 1\n1 2\n2 3\n")
}
