//go:build unix

package vfstest

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// Kinds lists the file systems that [Mount] supports. When they are full, both can still create files
// and extend them without writing. A write to ext4 fails at the first block that cannot be allocated.
// On tmpfs, a small write to an existing page always succeeds.
var Kinds = []string{"tmpfs", "ext4"}

// Mount mounts a file system of about size bytes (for ext4 at least 8 MiB) and returns its
// directory. If mounting fails, it skips the test, or fails it if PARTD_REQUIRE_ALL is set.
func Mount(t testing.TB, kind string, size int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := mount(t, kind, dir, size); err != nil {
		procs.Skip(t, "the test needs permission to mount %s: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := unmount(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Fill fills a directory's disk. It returns a function that frees the space again.
func Fill(t testing.TB, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	// The last blocks of ext4 become available only when it writes its journal, so sync and retry.
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

// Free flushes a directory's disk and returns its free space in bytes.
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
