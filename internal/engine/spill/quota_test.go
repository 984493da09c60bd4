package spill

import (
	"errors"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestQuota checks that files share a quota and release their bytes.
func TestQuota(t *testing.T) {
	var q Quota
	create := func() vfs.File {
		f := must.Get(tempdir.Create())(t)
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	w := &Writer{WriteCloser: create(), Quota: &q}
	if _, err := w.Write(make([]byte, 1000)); err != nil { // there is no limit yet
		t.Fatal(err)
	}
	q.SetLimit(1200)
	f := New(create(), "rows", 100)
	f.Quota = &q
	if _, err := f.Write(make([]byte, 350)); !errors.Is(err, partd.ErrTooLarge) {
		t.Errorf("Write beyond the quota = %v, want %v", err, partd.ErrTooLarge)
	}
	w.Release()
	if _, err := f.Write(make([]byte, 800)); err != nil {
		t.Error(err)
	}
	if n := q.used.Load(); n != f.Size() || n < 700 {
		t.Errorf("the quota counts %d bytes, but the file has %d", n, f.Size())
	}
	must.Do(t, f.Close())
	if n := q.used.Load(); n != 0 {
		t.Errorf("after Close, the quota counts %d bytes, want 0", n)
	}
}
