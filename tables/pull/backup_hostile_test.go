package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/internal/files/content"
)

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
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
		size := allocated(func() { _, err = a.Restore(t.Context(), bucket, name) })
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
	size := allocated(func() {
		must.Do(t, d.Fetch(t.Context(), f, backupBucket(new(zeroBucket))))
	})
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
