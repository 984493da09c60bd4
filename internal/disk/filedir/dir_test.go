package filedir_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestFileCreatesDirectories checks that OpenFile creates missing directories, and that a later change of the working
// directory does not affect the store.
func TestFileCreatesDirectories(t *testing.T) {
	t.Chdir(t.TempDir())
	f := fileOpen(t, fileOS, "a/b/c", nil, filedir.Hooks{})
	fileAppend(t, f, "k", "1")
	t.Chdir(t.TempDir())
	fileAppend(t, f, "k", "2", "other", "3")
	fileWantContent(t, f, map[string]string{"k": "12", "other": "3"})
	if entries, _ := os.ReadDir("."); len(entries) != 0 {
		t.Fatalf("the store wrote to the new working directory: %v", entries)
	}
}

// TestFileLeavesForeignFilesAlone checks that if a foreign file exists, listings fail with an error that names
// it. It must not affect other keys, and must survive Drop.
func TestFileLeavesForeignFilesAlone(t *testing.T) {
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	fileAppend(t, f, "mine", "1", strings.Repeat("long", 100), "2")
	foreign := []string{"%41", "note~", "é", "%h12", "%zz", "%undo2"}
	for _, name := range foreign {
		fileWrite(t, filepath.Join(dir, name), []byte("foreign"))
	}
	for _, name := range []string{"sub", "sub2!"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
		fileWrite(t, filepath.Join(dir, name, "mine"), []byte("foreign"))
	}
	outside := filepath.Join(t.TempDir(), "outside")
	fileWrite(t, outside, []byte("outside"))
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	wantNamed := func(name string) {
		t.Helper()
		_, scan := fileContent(f)
		_, _, _, stat := f.Stat(t.Context())
		keys := f.Keys(t.Context(), func(string, int64) bool { return true })
		for _, err := range []error{scan, stat, keys} {
			if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, name)+" was not written by partd") {
				t.Errorf("foreign file %s: error %v, want an error that names the file", name, err)
			}
		}
	}
	wantValues := func(want map[string]string) { // checks only the given keys
		t.Helper()
		for key, value := range want {
			if v, err := f.Get(t.Context(), key); err != nil || string(v[0]) != value {
				t.Errorf("Get(%q) = %q, %v, want %q", key, v, err, value)
			}
		}
	}
	wantValues(map[string]string{"mine": "1", strings.Repeat("long", 100): "2", "sub-|-mine": "foreign"})
	asideDir := t.TempDir()
	foreign = append(foreign, "sub2!/mine", "link")
	for _, name := range foreign { // move all foreign files away except this one
		for _, other := range foreign {
			if other != name {
				if err := os.Rename(filepath.Join(dir, other), filepath.Join(asideDir, filepath.Base(other)+filepath.Dir(other))); err != nil {
					t.Fatal(err)
				}
			}
		}
		wantNamed(name)
		for _, other := range foreign {
			if other != name {
				if err := os.Rename(filepath.Join(asideDir, filepath.Base(other)+filepath.Dir(other)), filepath.Join(dir, other)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}

	// Keys with these names are rejected, and links are not followed.
	for _, key := range []string{"sub", "link"} {
		if err := f.Append(t.Context(), fileEntries("mine", "x", key, "x")...); err == nil {
			t.Errorf("Append to key %q, a directory or link, succeeded", key)
		}
		if err := f.Set(t.Context(), "sub", nil); err == nil {
			t.Error("Set of key \"sub\", a directory, succeeded")
		}
		if v, err := f.Get(t.Context(), key); err == nil {
			t.Errorf("Get(%q) = %q, want an error, because the key is a directory or link", key, v)
		}
	}
	wantValues(map[string]string{"mine": "1", strings.Repeat("long", 100): "2"})

	if err := f.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantValues(map[string]string{"mine": "", strings.Repeat("long", 100): "", "sub-|-mine": ""})
	leftovers, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for _, e := range leftovers {
		if strings.HasPrefix(e.Name(), "%k") || strings.HasPrefix(e.Name(), "%tmp") || e.Name() == "mine" {
			own = append(own, e.Name())
		}
	}
	if len(leftovers) != len(foreign)+2 || own != nil {
		t.Fatalf("after Drop, the directory contains %v, want only the foreign files, .lock and %%undo, not %v", leftovers, own)
	}
	if string(fileRead(t, outside)) != "outside" {
		t.Fatal("Drop changed the target of a symbolic link")
	}
}

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
				if err := os.Remove(lock); err != nil {
					t.Error(err)
				}
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
				if err != nil {
					t.Fatal(err)
				}
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

// TestFileLockDeletedDuringSet removes the lock file while Set writes a value. Set must fail, because another process
// may be creating the same key.
func TestFileLockDeletedDuringSet(t *testing.T) {
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
	fileWantInErr(t, f.Set(t.Context(), "a", []byte("2")), ".lock")
	file, err := mem.OpenFile(fileMemDir+"/.lock", os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	fileWantContent(t, f, map[string]string{"a": "1"})
}

// TestFileDropByPythonUnderKeptLock removes a store's files between two appends, as Python's drop does. The store must
// not use the lock that it kept on the removed file.
func TestFileDropByPythonUnderKeptLock(t *testing.T) {
	mem := vfstest.NewMem()
	f := fileOpen(t, mem, fileMemDir, nil, filedir.Hooks{})
	for range 50 { // repeat, because the store may release the lock before .lock is removed
		fileAppend(t, f, "a", "1")
		for _, name := range []string{"a", names.Journal, ".lock"} {
			if err := mem.Remove(fileMemDir + "/" + name); err != nil {
				t.Fatal(err)
			}
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
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if locked, err := other.TryLock(true); err != nil || !locked {
			t.Fatalf("TryLock after Close = %v, %v, want true", locked, err)
		}
		if err := other.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFileKeptLockIsReleased checks that other processes soon get a lock that a store keeps between appends.
func TestFileKeptLockIsReleased(t *testing.T) {
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	other := vfs.OS{}.NewLock(filepath.Join(dir, ".lock"))
	for range 5 {
		fileAppend(t, f, "a", "1")
		got := make(chan error, 1)
		go func() { got <- other.Lock(true) }()
		if err := fileWithin(t, 10*time.Second, "locking while the store is idle", got); err != nil {
			t.Fatal(err)
		}
		if err := other.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	// A busy store must also release the lock from time to time.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := f.Append(context.Background(), fileEntries("a", "1")...); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range 5 {
		got := make(chan error, 1)
		go func() { got <- other.Lock(true) }()
		if err := fileWithin(t, 30*time.Second, "locking while the store is busy", got); err != nil {
			t.Fatal(err)
		}
		if err := other.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
}

// TestFileContextEndsWait checks that operations that wait for the lock can be canceled, and then change nothing.
func TestFileContextEndsWait(t *testing.T) {
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, fileNoKeptLock)
	fileAppend(t, f, "a", "1")
	other := vfs.OS{}.NewLock(filepath.Join(dir, ".lock"))
	if err := other.Lock(true); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("called off")
	for name, op := range map[string]func(ctx context.Context) error{
		"Append": func(ctx context.Context) error { return f.Append(ctx, fileEntries("a", "2")...) },
		"Set":    func(ctx context.Context) error { return f.Set(ctx, "a", nil) },
		"Drop":   func(ctx context.Context) error { return f.Drop(ctx) },
		"Get":    func(ctx context.Context) error { _, err := f.Get(ctx, "a"); return err },
		"Scan": func(ctx context.Context) error {
			for _, err := range f.Scan(ctx) {
				return err
			}
			return nil
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- op(ctx) }()
		time.AfterFunc(5*time.Millisecond, func() { cancel(cause) })
		err := fileWithin(t, 10*time.Second, name, done)
		if !errors.Is(err, cause) || errors.Is(err, partd.ErrUnknownOutcome) {
			t.Fatalf("%s: error %v, want only the context's cause", name, err)
		}
	}
	if err := other.Unlock(); err != nil {
		t.Fatal(err)
	}
	// If canceled operations acquired the lock nevertheless, they must release it.
	for range 2 {
		got := make(chan error, 1)
		go func() { got <- other.Lock(true) }()
		if err := fileWithin(t, 10*time.Second, "locking after canceled operations", got); err != nil {
			t.Fatal(err)
		}
		if err := other.Unlock(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	fileAppend(t, f, "a", "3")
	fileWantContent(t, f, map[string]string{"a": "13"})

	// Close must not wait for the lock.
	if err := other.Lock(true); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	fileWantErr(t, f.Append(ctx, fileEntries("a", "4")...), context.DeadlineExceeded)
	done := make(chan error, 1)
	go func() { done <- f.Close() }()
	if err := fileWithin(t, 10*time.Second, "Close", done); err != nil {
		t.Fatal(err)
	}
	if err := other.Unlock(); err != nil {
		t.Fatal(err)
	}
}

// TestFileContextEndsAppend checks that a large append is undone if its context ends midway.
func TestFileContextEndsAppend(t *testing.T) {
	f := fileOpen(t, fileOS, t.TempDir(), nil, filedir.Hooks{})
	fileAppend(t, f, "k100", "1")
	var entries []partd.Entry
	for i := range 1000 {
		entries = append(entries, partd.Entry{Key: fmt.Sprint("k", i), Value: []byte("x")})
	}
	ctx, cancel := context.WithCancel(t.Context())
	writes := 0
	f.Hooks.AfterWrite = func() {
		if writes++; writes == 500 {
			cancel()
		}
	}
	err := f.Append(ctx, entries...)
	if !errors.Is(err, context.Canceled) || errors.Is(err, partd.ErrUnknownOutcome) || writes == 1000 {
		t.Fatalf("Append returned the error %v after %d writes, want Canceled before 1000 writes", err, writes)
	}
	fileWantContent(t, f, map[string]string{"k100": "1"})
}
