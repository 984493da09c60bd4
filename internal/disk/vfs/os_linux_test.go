package vfs

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"golang.org/x/sys/unix"
)

// TestPageCache checks that a file's pages leave the page cache and return as the hints say, and
// that Evicted counts only pages that the system removed to free memory.
func TestPageCache(t *testing.T) {
	file := must.Get(OS{}.OpenFile(filepath.Join(t.TempDir(), "file"), os.O_RDWR|os.O_CREATE, 0o666))(t)
	defer file.Close()
	f, n := file.(osFile), int64(1<<20)
	cached := func() int64 { return int64(f.cacheStats(0, n).cached) * int64(os.Getpagesize()) }
	must.Get(f.WriteAt(make([]byte, n), 0))(t)
	switch got := cached(); got {
	case n:
	case 0:
		t.Skip("the kernel does not support cachestat(2), or not for this file system")
	default:
		t.Errorf("after a write, %d bytes are cached, want %d", got, n)
	}
	f.WriteBack(0, n)
	if err := f.Sync(); err != nil { // waits for WriteBack
		t.Fatal(err)
	}
	f.Evict(0, n)
	if got := cached(); got == n {
		t.Skip("the file system keeps all files in memory")
	} else if got != 0 {
		t.Errorf("after Evict, %d bytes are cached, want 0", got)
	}
	if got := f.Evicted(0, n); got != 0 {
		t.Errorf("after Evict, Evicted() = %d, want 0", got)
	}
	const ahead = 64 << 10
	f.Prefetch(0, ahead)
	for deadline := time.Now().Add(10 * time.Second); cached() < ahead; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("10 s after Prefetch, %d bytes are cached, want %d", cached(), ahead)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); f.Evicted(0, n) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("10 s after the system began to free memory, Evicted() = %d, want %d", f.Evicted(0, n), n)
		}
		if err := freeMemory(f, int(n)); err != nil { // it may omit pages that the system uses at the moment
			t.Skip(err)
		}
	}
	if err := f.Punch(0, n); err != nil {
		t.Skip(err)
	}
	if got := f.Evicted(0, n); got != 0 {
		t.Errorf("after Punch, Evicted() = %d, want 0", got)
	}
}

// freeMemory makes the system remove the file's first n bytes from the page cache, as if it needed
// memory.
func freeMemory(f osFile, n int) error {
	b, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(b)
	if err := unix.Madvise(b, unix.MADV_POPULATE_READ); err != nil {
		return err
	}
	return unix.Madvise(b, unix.MADV_PAGEOUT)
}
