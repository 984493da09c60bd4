package vfs

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestPageCache checks that a file's pages leave the page cache and return as the hints say.
func TestPageCache(t *testing.T) {
	f, err := OS{}.OpenFile(filepath.Join(t.TempDir(), "file"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, n := f.(Cacher), int64(1<<20)
	if c.Cached(0, n) != 0 { // of an empty file
		t.Skip("the kernel does not support cachestat(2)")
	}
	if _, err := f.WriteAt(make([]byte, n), 0); err != nil {
		t.Fatal(err)
	}
	if got := c.Cached(0, n); got != n {
		t.Errorf("after a write, Cached() = %d, want %d", got, n)
	}
	c.WriteBack(0, n)
	if err := f.Sync(); err != nil { // waits for WriteBack
		t.Fatal(err)
	}
	c.Evict(0, n)
	if got := c.Cached(0, n); got == n {
		t.Skip("the file system keeps all files in memory")
	} else if got != 0 {
		t.Errorf("after Evict, Cached() = %d, want 0", got)
	}
	c.Prefetch(0, n/4)
	deadline := time.Now().Add(10 * time.Second)
	for c.Cached(0, n/4) < n/4 {
		if time.Now().After(deadline) {
			t.Fatalf("10 s after Prefetch, Cached() = %d, want %d", c.Cached(0, n/4), n/4)
		}
		time.Sleep(time.Millisecond)
	}
}
