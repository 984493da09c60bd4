//go:build unix

package vfstest

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestFill checks that on a full disk, a file can be created and extended, but not written to until space is freed.
func TestFill(t *testing.T) {
	for _, kind := range Kinds {
		t.Run(kind, func(t *testing.T) {
			dir := Mount(t, kind, 8<<20)
			free := Free(t, dir)
			release := Fill(t, dir)
			name := filepath.Join(dir, "new")
			f := must.Get(os.Create(name))(t)
			must.Do(t, f.Truncate(1<<20))
			if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("WriteAt on a full disk: error %v, want ENOSPC", err)
			}
			release()
			must.Get(f.WriteAt([]byte("x"), 0))(t)
			must.Do(t, errors.Join(f.Close(), os.Remove(name)))
			if n := Free(t, dir); n != free {
				t.Errorf("%d bytes are free after the test, want %d as before", n, free)
			}
		})
	}
}
