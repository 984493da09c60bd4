package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/gateway"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/tables/internal/content"
)

// sent returns the number of files that a backup or restore copied.
func sent(done []Copied) (files int) {
	for _, d := range done {
		files += d.Files
	}
	return files
}

func mustBackup(t *testing.T, n *Node, b objstore.Bucket, name string) []Copied {
	t.Helper()
	done, err := n.Backup(t.Context(), b, name, false)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// TestBackup checks that a backup sends only missing files, and that a new node with an
// empty registry restores all tables with the same versions.
func TestBackup(t *testing.T) {
	t.Run("directory", func(t *testing.T) {
		b, err := objstore.OpenDirectory(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		backUp(t, b)
	})
	t.Run("S3", func(t *testing.T) {
		g := gateway.Start(t)
		b, err := cloud.OpenBucket(t.Context(), fmt.Sprintf("s3://bucket/vault?endpoint=http://%s", g.Addr))
		if err != nil {
			t.Fatal(err)
		}
		backUp(t, b)
	})
}

func backUp(t *testing.T, bucket objstore.Bucket) {
	b := objstore.NewCounter(bucket)
	_, url := registryOf(t)
	a, other := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSaveFile(t, a, "x", 0)
	mustSaveFile(t, a, "x", 100)
	mustSave(t, other, "y/z", 0, "a=1,2")
	x, y := load(t, a, "x", always, always), load(t, other, "y/z", always, always)
	if done := mustBackup(t, a, b, "monday/1"); sent(done) != 5 || len(done) != 2 || done[0].Version != 2 || done[0].Rows != 10 {
		t.Errorf("%+v", done)
	}
	before := b.Requests().Put
	if done := mustBackup(t, other, b, "tuesday"); sent(done) != 0 || b.Requests().Put != before+1 {
		t.Errorf("nothing changed: %+v, and %d objects were made", done, b.Requests().Put-before)
	}
	if _, err := a.Backup(t.Context(), b, "tuesday", false); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	mustSaveFile(t, a, "x", 200)
	if done := mustBackup(t, a, b, "wednesday"); sent(done) != 2 { // a file and the manifest
		t.Errorf("a file is new: %+v", done)
	}
	wednesday := load(t, a, "x", always, always)
	if all, err := Backups(t.Context(), b); err != nil || len(all) != 3 || all[0].Name == all[2].Name {
		t.Errorf("%+v, %v", all, err)
	}
	// Restore over a newer version, twice.
	for range 2 {
		done, err := a.Restore(t.Context(), b, "monday/1", "x")
		if err != nil || len(done) != 1 || done[0].Version != 4 || sent(done) != 0 {
			t.Errorf("%+v, %v", done, err)
		}
	}
	if err := other.reg.sync(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*Node{a, other} {
		if got := load(t, n, "x", always, always); got != x {
			t.Errorf("%q, want %q", got, x)
		}
	}
	// Restore after a loss of all nodes and the registry.
	_, url = registryOf(t)
	empty := openNode(t, t.TempDir(), Options{Registry: url})
	if done, err := empty.Restore(t.Context(), b, "wednesday"); err != nil || sent(done) != 6 || done[0].Version != 3 {
		t.Errorf("%+v, %v", done, err)
	}
	for name, want := range map[string]string{"x": wednesday, "y/z": y} {
		if got := load(t, empty, name, always, always); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	// A returning node has the same version of y, and a newer one of x, which all nodes
	// load.
	back := openNode(t, other.disk.dir, Options{Registry: url})
	if got := load(t, back, "x", always, always); got != x {
		t.Errorf("%q, want %q", got, x)
	}
	if got := load(t, back, "y/z", always, always); got != y || back.Stats().Bytes > 2*maxRecord {
		t.Errorf("%q, %d bytes came", got, back.Stats().Bytes)
	}
	for _, c := range [][]string{{"no"}, {"monday/1", "no"}} {
		if _, err := empty.Restore(t.Context(), b, c[0], c[1:]...); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
}

// TestBackupDamaged checks that no restore uses a file that is damaged in the bucket,
// that a backup with verify replaces it, and that a restore replaces damaged local files
// from the bucket.
func TestBackupDamaged(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1,2")
	want := load(t, a, "x", always, always)
	dir := t.TempDir()
	b, err := objstore.OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	mustBackup(t, a, b, "one")
	hash := filepath.Base(filesOf(t, a)[0])
	_, other := registryOf(t)
	empty := openNode(t, t.TempDir(), Options{Registry: other})
	for _, damage := range []func(path string){
		func(path string) { flip(t, path) },
		func(path string) {
			if err := os.Truncate(path, 5); err != nil {
				t.Fatal(err)
			}
		},
	} {
		damage(filepath.Join(dir, backupFiles, hash))
		if _, err := empty.Restore(t.Context(), b, "one"); !errors.Is(err, content.ErrDamaged) || !strings.Contains(err.Error(), hash) {
			t.Error(err)
		}
		if _, err := empty.Load(t.Context(), "x", always, always); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		done, err := a.Backup(t.Context(), b, fmt.Sprintf("%p", damage), true)
		if err != nil || sent(done) != 1 {
			t.Errorf("%+v, %v", done, err)
		}
	}
	if _, err := empty.Restore(t.Context(), b, "one"); err != nil {
		t.Fatal(err)
	}
	flip(t, filesOf(t, empty)[0])
	if done, err := empty.Restore(t.Context(), b, "one"); err != nil || sent(done) != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	if got := load(t, empty, "x", always, always); got != want {
		t.Errorf("%q", got)
	}
}

// fading is a bucket that fails after a number of requests.
type fading struct {
	objstore.Bucket
	left atomic.Int64
}

func fade(b objstore.Bucket, after int64) *fading {
	f := &fading{Bucket: b}
	f.left.Store(after)
	return f
}

var errFaded = fmt.Errorf("it faded: %w", objstore.ErrRefused)

func (f *fading) Create(ctx context.Context, name string, data []byte) error {
	if f.left.Add(-1) < 0 {
		return errFaded
	}
	return f.Bucket.Create(ctx, name, data)
}

func (f *fading) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if f.left.Add(-1) < 0 {
		return nil, errFaded
	}
	return f.Bucket.ReadRange(ctx, name, offset, length)
}

// TestBackupStopped interrupts a backup and a restore everywhere. An interrupted backup
// must not be listed, and the next call must continue it.
func TestBackupStopped(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	for name, values := range map[string]string{"x": "a=1,2", "y": "a=3,4"} {
		mustSave(t, a, name, 0, values)
	}
	b := new(objstore.Memory)
	for range 4 { // two files and two manifests; each backup first uses one read to look for the name
		done, err := a.Backup(t.Context(), fade(b, 2), "one", false)
		if all, _ := Backups(t.Context(), b); !errors.Is(err, errFaded) || len(all) != 0 {
			t.Errorf("%+v, %v, %v", done, all, err)
		}
	}
	if done := mustBackup(t, a, b, "one"); sent(done) != 0 {
		t.Errorf("what was stopped is sent again: %+v", done)
	}
	_, other := registryOf(t)
	empty := openNode(t, t.TempDir(), Options{Registry: other})
	var done []Copied
	tries := 0
	for err := error(errFaded); err != nil; tries++ {
		if !errors.Is(err, errFaded) || tries > 6 {
			t.Fatal(err)
		}
		done, err = empty.Restore(t.Context(), fade(b, 2), "one") // reads the backup's list and one file
	}
	if tries != 4 || len(done) != 2 {
		t.Errorf("%d tries, %+v", tries, done)
	}
	for name, want := range map[string]string{"x": "0 1\n1 2\n", "y": "0 3\n1 4\n"} {
		if got := load(t, empty, name, always, always); got != want {
			t.Errorf("%q", got)
		}
	}
}

// TestSweepKeepsUnnoted checks that a sweep keeps a version that a process saved before
// it was killed, without setting a head.
func TestSweepKeepsUnnoted(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1,2")
	if err := os.Remove(a.disk.headPath(keyOf("x"))); err != nil {
		t.Fatal(err)
	}
	stray, err := a.disk.Create(t.Context(), func(w io.Writer) error { _, err := io.WriteString(w, "of nobody"); return err })
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(a.disk.dir, "files"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		long := time.Now().Add(-2 * orphanAge)
		if err := os.Chtimes(a.disk.Path(e.Name()), long, long); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.reg.sync(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	a.audit(t.Context())
	if _, err := os.Stat(a.disk.Path(stray.Hash)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of nobody: %v", err)
	}
	if got := load(t, b, "x", always, always); got != "0 1\n1 2\n" {
		t.Errorf("%q", got)
	}
}
