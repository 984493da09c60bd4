//go:build unix

// Package disktest gives tests small disks of their own, to fill.
package disktest

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/vfs"
)

// Kinds are the file systems that [Mount] makes. When full, both still make
// files, and make them longer without writing. They differ in what a full one
// refuses: an ext4 file gets its blocks one by one, a small write to a page of
// a tmpfs file that is there always works.
var Kinds = []string{"tmpfs", "ext4"}

// Mount returns a directory with a file system of its own, of about so many
// bytes, 8 MiB at least for ext4. It skips the test where that is not possible,
// and fails it if PARTD_REQUIRE_ALL is set.
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

// Fill takes all room of a directory's disk. What it returns gives the room
// back.
func Fill(t testing.TB, dir string) (giveBack func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	// The last blocks of ext4 come free when its journal is written.
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

// Free returns the bytes that are free on a directory's disk, once it has
// written all that waits.
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
