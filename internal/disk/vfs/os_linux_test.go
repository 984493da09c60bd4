package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

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
	var direct cacheStats // without the methods of f, to know what the system supports
	section := [2]uint64{0, uint64(n)}
	_, _, _ = unix.Syscall(unix.SYS_CACHESTAT, f.Fd(), uintptr(unsafe.Pointer(&section)), uintptr(unsafe.Pointer(&direct)))
	if got := cached(); direct.cached == 0 {
		t.Skip("the kernel does not support cachestat(2), or not for this file system")
	} else if got != n {
		t.Errorf("after a write, %d bytes are cached, want %d", got, n)
	}
	f.WriteBack(0, n)
	dirty := f.cacheStats(0, n).dirty
	if err := f.Sync(); err != nil { // waits for WriteBack
		t.Fatal(err)
	}
	f.Evict(0, n)
	got := cached()
	must.Do(t, unix.Fadvise(int(f.Fd()), 0, n, unix.FADV_DONTNEED))
	if cached() == n {
		t.Skip("the file system keeps all files in memory")
	} else if got != 0 || dirty != 0 {
		t.Errorf("after WriteBack, %d pages are not yet being written; after Evict, %d bytes are cached; want 0", dirty, got)
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
	if err := f.Punch(0, n); errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	} else if err != nil {
		t.Error(err)
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

// TestOS checks what OS reports about files, disks and the process, and its errors for a missing file.
func TestOS(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must.Do(t, errors.Join(os.WriteFile(file, []byte("abc"), 0o600), os.Chmod(file, 0o777), os.Chmod(dir, 0o700)))
	for name, mode := range map[string]fs.FileMode{file: 0o777, dir: fs.ModeDir | 0o700} {
		if info, err := (OS{}).Info(name); err != nil || info.Mode != mode {
			t.Errorf("Info(%s) = %+v, %v, want mode %v", filepath.Base(name), info, err, mode)
		}
	}
	must.Do(t, OS{}.Rename(file, filepath.Join(dir, "new")))
	_, freeErr := OS{}.Free(file)
	for _, err := range []error{freeErr, OS{}.CheckWritable(file)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the error for a missing file is %v, want %v", err, fs.ErrNotExist)
		}
	}
	must.Do(t, OS{}.CheckWritable(dir))
	if n := OpenFileLimit(); n < 3 || n > 1<<20 {
		t.Errorf("OpenFileLimit() = %d, want at least 3 and at most 2^20", n)
	}
}
