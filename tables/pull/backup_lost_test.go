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

	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/internal/content"
)

// TestBackupRecordLost loses a table's record in the registry. A node with the table must
// still back it up; a node without it must fail.
func TestBackupRecordLost(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	if err := a.reg.kv.Delete(t.Context(), "t."+keyOf("x")); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*Node{a, b} {
		if err := n.reg.sync(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	bucket := new(objstore.Memory)
	if done := mustBackup(t, a, bucket, "one"); len(done) != 1 || done[0].Version != 1 {
		t.Errorf("%+v", done)
	}
	if done, err := b.Backup(t.Context(), bucket, "two", false); !errors.Is(err, ErrSyncFailed) || !strings.Contains(err.Error(), "lost") {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestBackupIsNotStale checks that a backup fails if it cannot get the newest versions,
// even if MaxStaleness allows Load to return older ones.
func TestBackupIsNotStale(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	b := openNode(t, t.TempDir(), Options{Registry: url, MaxStaleness: time.Hour})
	mustSave(t, a, "x", 0, "a=1")
	load(t, b, "x", always, always)
	mustSave(t, a, "x", 1, "a=2")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.reg.sync(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if got := load(t, b, "x", always, always); got != "0 1\n" {
		t.Errorf("%q", got)
	}
	if done, err := b.Backup(t.Context(), new(objstore.Memory), "one", false); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestBackupPlaces checks that names which the bucket cannot store are rejected before
// anything is sent, that a node's own directory can hold backups, and that tables share
// files.
func TestBackupPlaces(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	for _, name := range []string{"x", "y"} {
		mustSave(t, a, name, 0, "a=1")
	}
	d, err := objstore.OpenDirectory(a.disk.dir)
	if err != nil {
		t.Fatal(err)
	}
	b := objstore.NewCounter(d)
	for _, name := range []string{".new-x", strings.Repeat("é", 127)} {
		if _, err := a.backup(t.Context(), content.Bucket{Bucket: b, Prefix: backupFiles}, name, false); err == nil || b.Requests().Put != 0 {
			t.Errorf("%s: %v, %d objects were made", name, err, b.Requests().Put)
		}
	}
	if done := mustBackup(t, a, b, ".."); sent(done) != 3 {
		t.Errorf("%+v", done)
	}
}

// TestSweepBesideRestore checks that a sweep keeps old files that a restore, or a later
// save, uses again before any version in a head refers to them.
func TestSweepBesideRestore(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	b := openNode(t, t.TempDir(), Options{Registry: url})
	load(t, b, "x", always, always)
	bucket := new(objstore.Memory)
	mustBackup(t, a, bucket, "one")
	mustSave(t, a, "x", 0, "a=2")
	load(t, b, "x", always, always)
	for _, n := range []*Node{a, b} { // forget and age the version of the backup
		h, err := n.disk.head(keyOf("x"))
		if err != nil {
			t.Fatal(err)
		}
		h.Old = nil
		text, err := json.Marshal(h)
		if err == nil {
			err = n.disk.replace(n.disk.headPath(keyOf("x")), text)
		}
		if err != nil {
			t.Fatal(err)
		}
		entries, err := filepath.Glob(n.disk.Path("*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range entries {
			long := time.Now().Add(-2 * orphanAge)
			if err := os.Chtimes(path, long, long); err != nil {
				t.Fatal(err)
			}
		}
	}
	var swept atomic.Int64
	hostile(t, a, func(w http.ResponseWriter, r *http.Request) { // sweeps between the restore of the files and of the record
		if strings.HasPrefix(r.URL.Path, headPath) && a.disk.sweep(t.Context(), a.reg.records()) == nil {
			swept.Add(1)
		}
		http.NotFound(w, r)
	})
	if _, err := a.Restore(t.Context(), bucket, "one"); err != nil {
		t.Fatal(err)
	}
	v, _, err := b.base(t.Context(), "x")
	if err == nil {
		err = b.disk.sweep(t.Context(), nil)
	}
	if err != nil || swept.Load() == 0 || v.record.Version != 3 {
		t.Fatal(v.record.Version, err, swept.Load())
	}
	for i, n := range []*Node{a, b} {
		if f := v.files[0]; !n.disk.Contains(f.Named) {
			t.Errorf("node %d lost the file", i)
		}
	}
}

// TestRestoreOverOlder restores a version that descends from the current one. It must
// keep its number, so that nodes that return with a version in between do not replace it.
func TestRestoreOverOlder(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	load(t, b, "x", always, always)
	mustSave(t, a, "x", 1, "a=2")
	between := a.reg.newest(keyOf("x"))
	mustSave(t, a, "x", 2, "a=3")
	bucket := new(objstore.Memory)
	mustBackup(t, a, bucket, "one")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Forget(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if err := b.reg.sync(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	done, err := b.Restore(t.Context(), bucket, "one")
	if err != nil || done[0].Version != 3 {
		t.Errorf("%+v, %v", done, err)
	}
	if e := b.reg.table(keyOf("x")); e.Version <= between.Version {
		t.Errorf("version %d would give way to %d", e.Version, between.Version)
	}
	if got := load(t, b, "x", always, always); got != "0 1\n1 2\n2 3\n" {
		t.Errorf("%q", got)
	}
}
