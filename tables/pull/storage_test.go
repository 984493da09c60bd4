package pull

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/internal/files/content"
)

// TestSweepStorage checks that a sweep removes only unused files and interrupted uploads
// from a storage, and at most once an hour.
func TestSweepStorage(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	bucket := new(objstore.Memory)
	a := openNode(t, t.TempDir(), Options{Registry: url, Storage: bucket})
	mustSave(t, a, "x", 0, "a=1,2")
	want := load(t, a, "x", noBound, noBound)
	stray, err := a.disk.Create(t.Context(), func(w io.Writer) error { _, err := io.WriteString(w, "unreferenced"); return err })
	if err != nil {
		t.Fatal(err)
	}
	interrupted := keyOf("an interrupted upload")
	if err := os.WriteFile(a.disk.Path(interrupted), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := bucket.Create(t.Context(), a.disk.id+"/"+interrupted, []byte("content")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(a.disk.Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		past := time.Now().Add(-2 * orphanAge)
		if err := os.Chtimes(a.disk.Path(e.Name()), past, past); err != nil {
			t.Fatal(err)
		}
	}
	count := func() (n int) {
		for range bucket.List(t.Context(), "", "") {
			n++
		}
		return n
	}
	before := count()
	a.disk.lastSweep = time.Now().Add(-grace / 2)
	if err := a.disk.sweep(t.Context(), nil); err != nil || count() != before {
		t.Errorf("a sweep after half an hour kept %d of %d objects, %v, want all", count(), before, err)
	}
	a.disk.lastSweep = time.Time{}
	if err := a.disk.sweep(t.Context(), nil); err != nil || count() != before-2 {
		t.Errorf("the sweep kept %d of %d objects, %v, want all but two", count(), before, err)
	}
	if _, err := a.disk.Open(t.Context(), stray); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of the unreferenced file: got error %v, want fs.ErrNotExist", err)
	}
	wantRows(t, a, "x", want)
	remaining, err := os.ReadDir(a.disk.Temp)
	if err != nil || len(remaining) > 0 {
		t.Errorf("%d temporary files remain, %v, want none", len(remaining), err)
	}
}

// TestStoreDuringSweep checks that a concurrent sweep does not remove an old file that a
// save uses again.
func TestStoreDuringSweep(t *testing.T) {
	t.Parallel()
	bucket := &sweptBucket{Memory: new(objstore.Memory), read: func() {}}
	d, err := openDisk(t.TempDir(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	create := func() content.Named {
		f, err := d.Create(t.Context(), func(w io.Writer) error { _, err := io.WriteString(w, "rows"); return err })
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f, past := create(), time.Now().Add(-2*orphanAge)
	if err := os.Chtimes(d.Path(f.Hash), past, past); err != nil {
		t.Fatal(err)
	}
	swept := 0
	bucket.read = func() {
		if swept++; swept == 1 {
			if err := d.sweep(t.Context(), nil); err != nil {
				t.Error(err)
			}
		}
	}
	create()
	if b, err := readAll(d.Open(t.Context(), f)); err != nil || !d.Contains(f) || swept == 0 {
		t.Errorf("Open after the sweep = %q, %v; Contains = %v; swept %d times; want the content, true and at least one sweep", b, err, d.Contains(f), swept)
	}
}

// sweptBucket is a bucket that calls read after it has opened an object.
type sweptBucket struct {
	*objstore.Memory
	read func()
}

func (b *sweptBucket) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := b.Memory.ReadRange(ctx, name, offset, length)
	b.read()
	return r, err
}
