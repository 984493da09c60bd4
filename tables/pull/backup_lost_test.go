package pull

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/internal/content"
)

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A table whose record the registry lost is in the backup of a node that has it, and none
// of another is without it.
func TestBackupRecordLost(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	if err := a.reg.kv.Purge(t.Context(), "t."+keyOf("x")); err != nil {
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

// A backup has the newest versions, and not what a Load may return in their place.
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

// A name that the place cannot take is refused before anything is sent. A node's own
// directory as the place has copies like any other, and tables share files.
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
	b := objstore.Count(d)
	for _, name := range []string{".new-x", strings.Repeat("é", 127)} {
		if _, err := a.backup(t.Context(), content.Bucket{Bucket: b, Prefix: backupFiles}, name, false); err == nil || b.Requests().Put != 0 {
			t.Errorf("%s: %v, %d objects were made", name, err, b.Requests().Put)
		}
	}
	if done := mustBackup(t, a, b, ".."); sent(done) != 3 {
		t.Errorf("%+v", done)
	}
}

// What a restore, or a save upon what was restored, found here stays here, however old it
// is: no version that is known had it before.
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
	for _, n := range []*Node{a, b} { // the version of the backup is of long ago
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
			long := time.Now().Add(-2 * orphaned)
			if err := os.Chtimes(path, long, long); err != nil {
				t.Fatal(err)
			}
		}
	}
	var swept atomic.Int64
	hostile(t, a, func(w http.ResponseWriter, r *http.Request) { // between the files and the record
		if strings.HasPrefix(r.URL.Path, headPath) && a.disk.sweep(a.reg.records()) == nil {
			swept.Add(1)
		}
		http.NotFound(w, r)
	})
	if _, err := a.Restore(t.Context(), bucket, "one"); err != nil {
		t.Fatal(err)
	}
	v, _, err := b.base(t.Context(), "x")
	if err == nil {
		err = b.disk.sweep(nil)
	}
	if err != nil || swept.Load() == 0 || v.record.Version != 3 {
		t.Fatal(v.record.Version, err, swept.Load())
	}
	for i, n := range []*Node{a, b} {
		if f := v.files[0]; !n.disk.Has(f.Named) {
			t.Errorf("node %d lost the file", i)
		}
	}
}

// A version that is restored over one that it is upon is the same again: nodes that return
// with one between do not take its place.
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

// A backup that makes no sense takes no more memory than its text, and makes no table.
func TestBackupHostile(t *testing.T) {
	_, url := registryOf(t)
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
		if err := bucket.Create(t.Context(), backupObject(name), text); err != nil {
			t.Fatal(err)
		}
		var err error
		took := allocated(func() { _, err = a.Restore(t.Context(), bucket, name) })
		if err == nil || !strings.Contains(err.Error(), "no sense") || took > 10*uint64(len(text))+16<<20 {
			t.Errorf("%.80s: %v, %d bytes", tables, err, took)
		}
	}
}

// flipping damages what comes at the first time that an object is read.
type flipping struct {
	objstore.Bucket
	seen sync.Map
}

func (f *flipping) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
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

// Bits that flip on their way are no damage to the place: what is there is asked for once
// more, and not replaced.
func TestBackupFlippedOnItsWay(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	b := new(objstore.Memory)
	mustBackup(t, a, b, "one")
	if done, err := a.Backup(t.Context(), &flipping{Bucket: b}, "two", true); err != nil || sent(done) != 0 {
		t.Errorf("%+v, %v", done, err)
	}
}

// zeros is a bucket of one large object.
type zeros struct{ objstore.Memory }

const manyZeros = 64 << 20

func (*zeros) ReadRange(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zero{}, manyZeros)), nil
}

type zero struct{}

func (zero) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A file that is restored is never in memory whole.
func TestRestoreTakesLittleMemory(t *testing.T) {
	f := content.Named{Hash: content.HashOf(bytes.Repeat([]byte{0}, manyZeros)), Size: manyZeros}
	d, err := openDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	took := allocated(func() {
		if err := d.Fetch(t.Context(), f, backupBucket(new(zeros))); err != nil {
			t.Error(err)
		}
	})
	if took > manyZeros/4 {
		t.Errorf("%d bytes", took)
	}
}

// A holder's version that is no number holds up nothing, and neither does a node that
// answers a byte at a time.
func TestHostileHolder(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a := openNode(t, t.TempDir(), Options{Registry: url, Lease: 5 * time.Second})
	mustSave(t, a, "x", 0, "a=1")
	n := openNode(t, t.TempDir(), Options{Registry: url, Lease: 5 * time.Second})
	asked := make(chan struct{}, 64)
	hostile(t, n, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		for range time.Tick(50 * time.Millisecond) {
			_, err := io.WriteString(w, " ")
			if err = errors.Join(err, http.NewResponseController(w).Flush(), r.Context().Err()); err != nil {
				return
			}
		}
	})
	if _, err := n.reg.kv.Put(t.Context(), "h."+keyOf("x")+".other", []byte("99999999999999999999 no")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := n.Load(ctx, "x", always, always)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := textOf(r); err != nil || got != "0 1\n" {
		t.Errorf("%q, %v", got, err)
	}
	if len(asked) == 0 {
		t.Skip("the load was too late: the peer counts as dead")
	}
}
