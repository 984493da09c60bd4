package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/tables/internal/files/content"
)

func sentFiles(done []Copied) (files int) {
	for _, d := range done {
		files += d.Files
	}
	return files
}

func mustBackup(t *testing.T, n *Node, b objstore.Bucket, name string) []Copied {
	t.Helper()
	return must.Get(n.Backup(t.Context(), b, name, false))(t)
}

// TestBackup checks that a backup sends only missing files, and that a new node with an
// empty registry restores all tables with the same versions.
func TestBackup(t *testing.T) {
	t.Run("directory", func(t *testing.T) {
		testBackup(t, must.Get(objstore.OpenDirectory(t.TempDir()))(t))
	})
	t.Run("S3", func(t *testing.T) {
		g := procs.StartGateway(t)
		b := must.Get(cloud.OpenBucket(t.Context(), fmt.Sprintf("s3://bucket/vault?endpoint=http://%s", g.Addr)))(t)
		testBackup(t, b)
	})
}

func testBackup(t *testing.T, bucket objstore.Bucket) {
	b := objstore.NewCounter(bucket)
	_, url := startRegistry(t)
	a, second := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSaveFile(t, a, "x", 0)
	mustSaveFile(t, a, "x", 100)
	mustSave(t, second, "y/z", 0, "a=1,2")
	x, y := load(t, a, "x", noBound, noBound), load(t, second, "y/z", noBound, noBound)
	if done := mustBackup(t, a, b, "monday/1"); sentFiles(done) != 5 || len(done) != 2 || done[0].Version != 2 || done[0].Rows != 10 {
		t.Errorf("first Backup = %+v, want 5 files of tables x, at version 2 with 10 rows, and y/z", done)
	}
	before := b.Requests().Put
	if done := mustBackup(t, second, b, "tuesday"); sentFiles(done) != 0 || b.Requests().Put != before+1 {
		t.Errorf("Backup without changes = %+v and created %d objects, want no files and 1 object", done, b.Requests().Put-before)
	}
	must.Fail(t, must.Err(a.Backup(t.Context(), b, "tuesday", false)), fs.ErrExist, "Backup with an existing name")
	mustSaveFile(t, a, "x", 200)
	if done := mustBackup(t, a, b, "wednesday"); sentFiles(done) != 2 { // a file and the manifest
		t.Errorf("Backup after one Save = %+v, want 2 files", done)
	}
	wednesday := load(t, a, "x", noBound, noBound)
	if all, err := Backups(t.Context(), b); err != nil || len(all) != 3 || all[0].Name == all[2].Name {
		t.Errorf("Backups = %+v, %v, want 3 backups", all, err)
	}
	// Restore twice while the node has a newer version.
	for range 2 {
		done, err := a.Restore(t.Context(), b, "monday/1", "x")
		if err != nil || len(done) != 1 || done[0].Version != 4 || sentFiles(done) != 0 {
			t.Errorf("Restore of x = %+v, %v, want version 4 and no files", done, err)
		}
	}
	must.Do(t, second.reg.sync(t.Context(), time.Minute))
	for _, n := range []*Node{a, second} {
		wantRows(t, n, "x", x)
	}
	// Restore after the loss of all nodes and the registry.
	_, url = startRegistry(t)
	empty := openNode(t, t.TempDir(), Options{Registry: url})
	if done, err := empty.Restore(t.Context(), b, "wednesday"); err != nil || sentFiles(done) != 6 || done[0].Version != 3 {
		t.Errorf("Restore to an empty node = %+v, %v, want 6 files and version 3 of x", done, err)
	}
	for name, want := range map[string]string{"x": wednesday, "y/z": y} {
		wantRows(t, empty, name, want)
	}
	// A node that returns has the same version of y/z and a newer version of x. Loads must
	// return the newer version.
	returned := openNode(t, second.disk.dir, Options{Registry: url})
	wantRows(t, returned, "x", x)
	wantRows(t, returned, "y/z", y)
	if received := returned.Stats().Bytes; received > 2*maxRecord {
		t.Errorf("the returned node received %d bytes, want only records", received)
	}
	for _, c := range [][]string{{"no"}, {"monday/1", "no"}} {
		must.Fail(t, must.Err(empty.Restore(t.Context(), b, c[0], c[1:]...)), ErrNotFound, "Restore(%q)", c)
	}
}

// TestBackupDamaged checks that no restore uses a file that is damaged in the bucket,
// that a backup with verify replaces it, and that a restore replaces damaged local files
// from the bucket.
func TestBackupDamaged(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1,2")
	want := load(t, a, "x", noBound, noBound)
	dir := t.TempDir()
	b := must.Get(objstore.OpenDirectory(dir))(t)
	mustBackup(t, a, b, "one")
	hash := filepath.Base(parquetFiles(t, a)[0])
	_, emptyRegistry := startRegistry(t)
	empty := openNode(t, t.TempDir(), Options{Registry: emptyRegistry})
	for _, damage := range []func(path string){
		func(path string) { flipBit(t, path) },
		func(path string) { must.Do(t, os.Truncate(path, 5)) },
	} {
		damage(filepath.Join(dir, backupFiles, hash))
		if _, err := empty.Restore(t.Context(), b, "one"); !errors.Is(err, content.ErrDamaged) || !strings.Contains(err.Error(), hash) {
			t.Errorf("Restore from a damaged file: got error %v, want ErrDamaged with the hash %s", err, hash)
		}
		must.Fail(t, must.Err(empty.Load(t.Context(), "x", noBound, noBound)), ErrNotFound, "Load after a failed Restore")
		done, err := a.Backup(t.Context(), b, fmt.Sprintf("%p", damage), true)
		if err != nil || sentFiles(done) != 1 {
			t.Errorf("Backup with verify = %+v, %v, want 1 replaced file", done, err)
		}
	}
	must.Get(empty.Restore(t.Context(), b, "one"))(t)
	flipBit(t, parquetFiles(t, empty)[0])
	if done, err := empty.Restore(t.Context(), b, "one"); err != nil || sentFiles(done) != 1 {
		t.Errorf("Restore to a node with a damaged file = %+v, %v, want 1 file", done, err)
	}
	wantRows(t, empty, "x", want)
}

// failingBucket is a bucket whose requests fail after a given number of successful ones.
type failingBucket struct {
	objstore.Bucket
	remaining atomic.Int64
}

func failAfter(b objstore.Bucket, after int64) *failingBucket {
	f := &failingBucket{Bucket: b}
	f.remaining.Store(after)
	return f
}

var errInjected = fmt.Errorf("injected failure: %w", objstore.ErrRefused)

func (f *failingBucket) Create(ctx context.Context, name string, data []byte) error {
	if f.remaining.Add(-1) < 0 {
		return errInjected
	}
	return f.Bucket.Create(ctx, name, data)
}

func (f *failingBucket) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if f.remaining.Add(-1) < 0 {
		return nil, errInjected
	}
	return f.Bucket.ReadRange(ctx, name, offset, length)
}

// TestBackupInterrupted interrupts a backup and a restore after each file. An interrupted backup
// must not be listed, and the next call must continue it.
func TestBackupInterrupted(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	for name, values := range map[string]string{"x": "a=1,2", "y": "a=3,4"} {
		mustSave(t, a, name, 0, values)
	}
	b := new(objstore.Memory)
	for range 4 { // there are two files and two manifests; each try makes one request to look for the name, and sends one file
		done, err := a.Backup(t.Context(), failAfter(b, 2), "one", false)
		if all, _ := Backups(t.Context(), b); !errors.Is(err, errInjected) || len(all) != 0 {
			t.Errorf("interrupted Backup = %+v, %v, want errInjected; Backups = %v, want none", done, err, all)
		}
	}
	if done := mustBackup(t, a, b, "one"); sentFiles(done) != 0 {
		t.Errorf("Backup after interrupted ones = %+v, want no files sent again", done)
	}
	_, emptyRegistry := startRegistry(t)
	empty := openNode(t, t.TempDir(), Options{Registry: emptyRegistry})
	var done []Copied
	tries := 0
	for err := error(errInjected); err != nil; tries++ {
		if !errors.Is(err, errInjected) || tries > 6 {
			t.Fatal(err)
		}
		done, err = empty.Restore(t.Context(), failAfter(b, 2), "one") // reads the backup's list and one file
	}
	if tries != 4 || len(done) != 2 {
		t.Errorf("Restore took %d tries and returned %+v, want 4 tries and 2 tables", tries, done)
	}
	for name, want := range map[string]string{"x": "0 1\n1 2\n", "y": "0 3\n1 4\n"} {
		wantRows(t, empty, name, want)
	}
}

// TestSweepKeepsVersionWithoutHead checks that a sweep keeps the files of a version whose process was killed after
// it committed the version, but before it wrote the head (the node's list of the versions of a table).
func TestSweepKeepsVersionWithoutHead(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1,2")
	must.Do(t, os.Remove(a.disk.headFile(keyOf("x"))))
	stray := must.Get(a.disk.Create(func(w io.Writer) error { _, err := io.WriteString(w, "unreferenced"); return err }))(t)
	entries := must.Get(os.ReadDir(filepath.Join(a.disk.dir, "files")))(t)
	for _, e := range entries {
		past := time.Now().Add(-2 * orphanAge)
		must.Do(t, os.Chtimes(a.disk.Path(e.Name()), past, past))
	}
	must.Do(t, a.reg.sync(t.Context(), time.Minute))
	a.audit(t.Context())
	must.Fail(t, must.Err(os.Stat(a.disk.Path(stray.Hash))), fs.ErrNotExist, "stat of the unreferenced file")
	wantRows(t, b, "x", "0 1\n1 2\n")
}

// TestBackupHostile restores invalid backups. They must create no table, and allocate
// memory only in proportion to the size of their lists.
func TestBackupHostile(t *testing.T) {
	_, url := startRegistry(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	bucket := new(objstore.Memory)
	entry := func(name string, more string) string {
		return fmt.Sprintf(`{"name":%q,"version":1,"manifest":%q,"size":100%s}`, name, strings.Repeat("a", 64), more)
	}
	for i, tables := range []string{
		strings.Repeat("{},", 4<<20) + "{}", "null", entry("", ""), entry(strings.Repeat("x", 300), ""), entry("x", `,"rows":-1`), entry("x", `,"bytes":-1`),
		strings.ReplaceAll(entry("x", ""), strings.Repeat("a", 64), "../../../etc/passwd"),
	} {
		name := fmt.Sprint(i)
		text := []byte(`{"tables":[` + tables + `]}`)
		must.Do(t, bucket.Create(t.Context(), backupObject(name), text))
		var err error
		size := procs.Allocated(func() { _, err = a.Restore(t.Context(), bucket, name) })
		if err == nil || !strings.Contains(err.Error(), "is invalid") || size > 10*uint64(len(text))+16<<20 {
			t.Errorf("Restore of the list %.80s: got error %v and %d bytes allocated for a list of %d bytes", tables, err, size, len(text))
		}
	}
}

// damagingBucket is a bucket in which the first read of each object returns damaged data.
type damagingBucket struct {
	objstore.Bucket
	seen sync.Map
}

func (f *damagingBucket) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := f.Bucket.ReadRange(ctx, name, offset, length)
	if err != nil || !strings.HasPrefix(name, backupFiles) {
		return r, err
	}
	if _, seen := f.seen.LoadOrStore(name, true); seen {
		return r, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(strings.NewReader("?"), r), r}, nil
}

// TestBackupDamagedInTransit damages an intact object on its way from the bucket. A backup with verify
// must read the object again, and must not replace it.
func TestBackupDamagedInTransit(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	b := new(objstore.Memory)
	mustBackup(t, a, b, "one")
	if done, err := a.Backup(t.Context(), &damagingBucket{Bucket: b}, "two", true); err != nil || sentFiles(done) != 0 {
		t.Errorf("Backup with verify = %+v, %v, want no files sent", done, err)
	}
}

// zeroBucket is a bucket in which every object consists of manyZeros zero bytes.
type zeroBucket struct{ objstore.Memory }

const manyZeros = 64 << 20

func (*zeroBucket) ReadRange(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeroReader{}, manyZeros)), nil
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestFetchMemory(t *testing.T) {
	f := content.HashNamed{Hash: content.HashOf(bytes.Repeat([]byte{0}, manyZeros)), Size: manyZeros}
	d := must.Get(openDisk(t.TempDir()))(t)
	size := procs.Allocated(func() { must.Do(t, d.Fetch(t.Context(), f, backupBucket(new(zeroBucket)))) })
	if size > manyZeros/4 {
		t.Errorf("Fetch of %d bytes allocated %d bytes, want at most a quarter", manyZeros, size)
	}
}

// TestHostileHolder checks that Load succeeds although the registry names a node with an invalid
// version number, and although another node sends its response endlessly, one byte at a time.
func TestHostileHolder(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	a := openNode(t, t.TempDir(), Options{Registry: url, Lease: 5 * time.Second})
	mustSave(t, a, "x", 0, "a=1")
	n := openNode(t, t.TempDir(), Options{Registry: url, Lease: 5 * time.Second})
	asked := make(chan struct{}, 64)
	addHostilePeer(t, n, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		for range time.Tick(50 * time.Millisecond) {
			_, err := io.WriteString(w, " ")
			if err = errors.Join(err, http.NewResponseController(w).Flush(), r.Context().Err()); err != nil {
				return
			}
		}
	})
	must.Do(t, n.reg.nats.put(t.Context(), "h."+keyOf("x")+".other", []byte("99999999999999999999 no")))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := must.Get(n.Load(ctx, "x", noBound, noBound))(t)
	if got, err := formatRows(r); err != nil || got != "0 1\n" {
		t.Errorf("rows = %q, %v, want %q", got, err, "0 1\n")
	}
	if len(asked) == 0 {
		t.Skip("the node did not ask the peer, because the peer's lease had ended")
	}
}
