//go:build unix

// Package disktest provides tests with small disks that they can fill.
package disktest

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/vfs"
)

// Kinds lists the file systems that [Mount] supports. When they are full, both still create files,
// and extend them without writing. They differ in other writes: an ext4 file gets its blocks one by
// one, whereas a small write to an existing page of a tmpfs file always succeeds.
var Kinds = []string{"tmpfs", "ext4"}

// Mount returns a directory with its own file system of about size bytes, at least 8 MiB for ext4.
// If that is not possible, it skips the test, or fails it if PARTD_REQUIRE_ALL is set.
func Mount(t testing.TB, kind string, size int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := mount(t, kind, dir, size); err != nil {
		if os.Getenv("PARTD_REQUIRE_ALL") != "" {
			t.Fatalf("mounting %s: %v", kind, err)
		}
		t.Skipf("needs the right to mount %s: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := unmount(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Fill uses up all space of a directory's disk. It returns a function that frees the space.
func Fill(t testing.TB, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	// ext4 frees its last blocks only when it writes its journal.
	for b := make([]byte, 1<<20); len(b) >= 512; {
		if _, err = f.Write(b); err == nil {
			continue
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		b = b[:len(b)/2]
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// Free returns the free bytes of a directory's disk after flushing it.
func Free(t testing.TB, dir string) int64 {
	t.Helper()
	if err := flush(dir); err != nil {
		t.Fatal(err)
	}
	n, err := vfs.OS{}.Free(dir)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
