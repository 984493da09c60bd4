package filedir_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestFileLockDeletedWhileHeld removes the lock file while an append holds the lock. Another process may lock
// the new file, so the append must not be acknowledged.
func TestFileLockDeletedWhileHeld(t *testing.T) {
	for name, replace := range map[string]bool{"deleted": false, "replaced": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
			fileAppend(t, f, "a", "1")
			lock := filepath.Join(dir, ".lock")
			removeLock := sync.OnceFunc(func() {
				must.Check(t, os.Remove(lock))
				if replace {
					fileWrite(t, lock, nil)
				}
			})
			f.Hooks.AfterWrite = removeLock
			err := f.Append(t.Context(), fileEntries("a", "2", "b", "2")...)
			fileWantErr(t, err, partd.ErrUnknownOutcome)
			fileWantInErr(t, err, ".lock")
			_, err = f.Get(t.Context(), "a")
			if replace {
				must.Do(t, err)
			} else {
				fileWantInErr(t, err, ".lock")
				fileWrite(t, lock, nil) // as the error advises
			}
			fileAppend(t, f, "a", "3")
			got, err := fileContent(f)
			if err != nil || got["a"] != "13" && got["a"] != "123" || (got["a"] == "123") != (got["b"] == "2") {
				t.Fatalf("the store contains %q (error %v), want the append in both keys or in neither", got, err)
			}
		})
	}
}

// TestFileLockDeletedDuringSet removes the lock file while Set writes a value or, for a long key, the key. Set must fail,
// because another process may be creating the same key, and leave the temporary file, which that process may be writing.
func TestFileLockDeletedDuringSet(t *testing.T) {
	for name, key := range map[string]string{"value": "a", "key": strings.Repeat("long", 100)} {
		t.Run(name, func(t *testing.T) {
			mem := vfstest.NewMem()
			enabled := false
			f := fileOpen(t, vfstest.Inject(mem, func(op vfstest.Op, name string) error {
				if enabled && op == vfstest.OpWrite && strings.HasSuffix(name, names.Temp) {
					enabled = false
					return mem.Remove(fileMemDir + "/.lock")
				}
				return nil
			}), fileMemDir, nil, fileNoKeptLock)
			fileAppend(t, f, "a", "1")
			enabled = true
			fileWantInErr(t, f.Set(t.Context(), key, []byte("2")), ".lock")
			must.Get(mem.Info(fileMemDir + "/" + names.Temp))(t)
			file := must.Get(mem.OpenFile(fileMemDir+"/.lock", os.O_RDWR|os.O_CREATE, 0o666))(t)
			file.Close()
			fileWantContent(t, f, map[string]string{"a": "1"})
		})
	}
}

// TestFileDropByPythonUnderKeptLock removes a store's files between two appends, as Python's drop does. The store must
// not use the lock that it kept on the removed file.
func TestFileDropByPythonUnderKeptLock(t *testing.T) {
	mem := vfstest.NewMem()
	f := fileOpen(t, mem, fileMemDir, nil, filedir.Hooks{})
	for range 50 { // repeat, because the store may release the lock before .lock is removed
		fileAppend(t, f, "a", "1")
		for _, name := range []string{"a", names.Journal, ".lock"} {
			must.Do(t, mem.Remove(fileMemDir+"/"+name))
		}
	}
	fileAppend(t, f, "b", "2")
	fileWantContent(t, f, map[string]string{"b": "2"})
}

// TestFileCloseReleasesKeptLock checks that Close releases a lock that the store kept for its next operation.
func TestFileCloseReleasesKeptLock(t *testing.T) {
	dir := t.TempDir()
	other := vfs.OS{}.NewLock(filepath.Join(dir, ".lock"))
	for range 20 { // repeat, because the store may release the lock before Close
		f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
		fileAppend(t, f, "a", "1")
		must.Do(t, f.Close())
		if locked, err := other.TryLock(true); err != nil || !locked {
			t.Fatalf("TryLock after Close = %v, %v, want true", locked, err)
		}
		must.Do(t, other.Unlock())
	}
}

// TestFileKeptLockIsReleased checks that other processes soon get a lock that a store keeps between appends.
func TestFileKeptLockIsReleased(t *testing.T) {
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	other := vfs.OS{}.NewLock(filepath.Join(dir, ".lock"))
	lockOther := func() error { return other.Lock(true) }
	for range 5 {
		fileAppend(t, f, "a", "1")
		must.Do(t, fileWithin(t, 10*time.Second, "locking while the store is idle", lockOther))
		must.Do(t, other.Unlock())
	}
	// A busy store must also release the lock from time to time.
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() && must.Check(t, f.Append(context.Background(), fileEntries("a", "1")...)) {
		}
	})
	for range 5 {
		must.Do(t, fileWithin(t, 30*time.Second, "locking while the store is busy", lockOther))
		must.Do(t, other.Unlock())
	}
	stop.Store(true)
	wg.Wait()
}

// TestFileContextEndsWait checks that operations that wait for the lock can be canceled, and then change nothing.
func TestFileContextEndsWait(t *testing.T) {
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, fileNoKeptLock)
	fileAppend(t, f, "a", "1")
	other := vfs.OS{}.NewLock(filepath.Join(dir, ".lock"))
	must.Do(t, other.Lock(true))
	cause := errors.New("called off")
	for name, op := range map[string]func(ctx context.Context) error{
		"Append": func(ctx context.Context) error { return f.Append(ctx, fileEntries("a", "2")...) },
		"Set":    func(ctx context.Context) error { return f.Set(ctx, "a", nil) },
		"Drop":   func(ctx context.Context) error { return f.Drop(ctx) },
		"Get":    func(ctx context.Context) error { _, err := f.Get(ctx, "a"); return err },
		"Scan":   func(ctx context.Context) error { return storetest.ErrorOfFirst(f.Scan(ctx)) },
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(5*time.Millisecond, func() { cancel(cause) })
		err := fileWithin(t, 10*time.Second, name, func() error { return op(ctx) })
		if !errors.Is(err, cause) || errors.Is(err, partd.ErrUnknownOutcome) {
			t.Fatalf("%s: error %v, want only the context's cause", name, err)
		}
	}
	must.Do(t, other.Unlock())
	// If canceled operations acquired the lock nevertheless, they must release it.
	for range 2 {
		must.Do(t, fileWithin(t, 10*time.Second, "locking", func() error { return other.Lock(true) }))
		must.Do(t, other.Unlock())
		time.Sleep(5 * time.Millisecond)
	}
	fileAppend(t, f, "a", "3")
	fileWantContent(t, f, map[string]string{"a": "13"})

	// Close must not wait for the lock.
	must.Do(t, other.Lock(true))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	fileWantErr(t, f.Append(ctx, fileEntries("a", "4")...), context.DeadlineExceeded)
	must.Do(t, fileWithin(t, 10*time.Second, "Close", f.Close))
	must.Do(t, other.Unlock())
}
