package filedir_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

func fileCheckSyncKeeps(t *testing.T, f *storetest.Dir, mem *vfstest.Mem, want map[string]string) {
	t.Helper()
	must.Do(t, f.Sync(t.Context()))
	fileCheckCrash(t, mem.Crash(nil), nil, -1, want)
}

// TestFileSyncAfterLockWasReplaced checks that Sync covers earlier data, even if .lock was recreated.
func TestFileSyncAfterLockWasReplaced(t *testing.T) {
	mem := vfstest.NewMem()
	f := fileOpen(t, mem, fileMemDir, nil, fileNoKeptLock)
	fileAppend(t, f, "a", "1", "b!", "2")
	lock := fileMemDir + "/.lock"
	must.Do(t, mem.Remove(lock))
	l := must.Get(mem.OpenFile(lock, os.O_RDWR|os.O_CREATE, 0o666))(t)
	must.Do(t, l.Close())
	fileCheckSyncKeeps(t, f, mem, map[string]string{"a": "1", "b!": "2"})
}

// TestFileSyncOfAFileThatWasReplaced replaces a file with an unsynced copy, as another process does when it undoes
// an incomplete append. Sync must also cover the copy.
func TestFileSyncOfAFileThatWasReplaced(t *testing.T) {
	for _, appendFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("append=%v", appendFirst), func(t *testing.T) {
			mem := vfstest.NewMem()
			f := fileOpen(t, mem, fileMemDir, nil, fileNoKeptLock)
			fileAppend(t, f, "a", "12345")
			tmp := must.Get(mem.OpenFile(fileMemDir+"/%tmp", os.O_RDWR|os.O_CREATE, 0o666))(t)
			must.Get(tmp.WriteAt([]byte("12345"), 0))(t)
			must.Do(t, errors.Join(tmp.Close(), mem.Rename(fileMemDir+"/%tmp", fileMemDir+"/a")))
			want := map[string]string{"a": "12345"}
			if appendFirst {
				fileAppend(t, f, "a", "6")
				want["a"] += "6"
			}
			fileCheckSyncKeeps(t, f, mem, want)
		})
	}
}

// TestFileSyncOfManyFiles checks that Sync covers closed files, even if there are more than the store remembers.
func TestFileSyncOfManyFiles(t *testing.T) {
	for _, maxDirty := range []int{3, 100} {
		t.Run(fmt.Sprint(maxDirty), func(t *testing.T) {
			mem := vfstest.NewMem()
			hooks := fileNoKeptLock
			hooks.MaxDirty = maxDirty
			f := fileOpen(t, mem, fileMemDir, &partd.FileOptions{MaxOpenFiles: 2}, hooks)
			want := map[string]string{}
			for i := range 10 {
				key := fmt.Sprint(fileLong, i)
				fileAppend(t, f, key, "1")
				fileAppend(t, f, key, "2") // now the file is already open
				want[key] = "12"
			}
			fileCheckSyncKeeps(t, f, mem, want)
		})
	}
}

// TestFileSyncFailsWhileCanceled checks that the store refuses writes and syncs after a failed sync, even if the
// context ends at the same time. A second sync would wrongly succeed, because the system reports a failure only once.
func TestFileSyncFailsWhileCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	mem := vfstest.NewMem()
	f := fileOpen(t, vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
		if op != vfstest.OpSync {
			return nil
		}
		cancel()
		return syscall.EIO
	}), fileMemDir, nil, fileNoKeptLock)
	fileAppend(t, f, "a", "1")
	if err := f.Sync(ctx); !errors.Is(err, syscall.EIO) || !errors.Is(err, partd.ErrUnknownOutcome) {
		t.Fatalf("Sync with a fault and a canceled context: error %v, want EIO and ErrUnknownOutcome", err)
	}
	must.Fail(t, f.Sync(t.Context()), partd.ErrNeedsReopen, "Sync after a failed sync")
}

// TestFileOneSyncFailsWhileOthersWait checks that if one of several concurrent syncs fails, the others fail too.
// The system reports a failure only once.
func TestFileOneSyncFailsWhileOthersWait(t *testing.T) {
	for _, opts := range []*partd.FileOptions{{}, {Sync: true}} {
		t.Run(fmt.Sprintf("sync=%v", opts.Sync), func(t *testing.T) {
			mem := vfstest.NewMem()
			waiting := make(chan struct{})
			fault := &vfstest.Fault{Call: 1, Err: syscall.EIO, Match: func(op vfstest.Op, name string) bool {
				return op == vfstest.OpSync && name == fileMemDir+"/a"
			}}
			enabled := false
			f := fileOpen(t, vfstest.Inject(mem, func(op vfstest.Op, name string) error {
				if !enabled {
					return nil
				}
				err := fault.Check(op, name)
				if err != nil {
					<-waiting
				}
				return err
			}), fileMemDir, opts, fileNoKeptLock)
			fileAppend(t, f, "a", "0", "b", "0")
			enabled = true
			const n = 4
			errs := make([]error, n)
			must.Concurrently(n, func(i int) {
				if i == 0 {
					close(waiting)
				}
				if opts.Sync {
					errs[i] = f.Append(t.Context(), fileEntries("a", "1")...)
				} else if errs[i] = f.Append(t.Context(), fileEntries("a", "1")...); errs[i] == nil {
					errs[i] = f.Sync(t.Context())
				}
			})
			if !fault.Hit() {
				t.Fatal("the injected sync failure did not occur")
			}
			for i, err := range errs {
				if err == nil {
					t.Errorf("operation %d succeeded, although a concurrent sync failed", i)
				}
			}
			got := must.Get(fileContent(f))(t)
			if want := map[string]string{"a": "0", "b": "0"}; opts.Sync && !maps.Equal(got, want) {
				t.Error(fileDiff(got, want))
			}
		})
	}
}

// TestFileFailedSetLeavesNoKey checks that a failed Set of a new long key leaves no file with the key's text.
func TestFileFailedSetLeavesNoKey(t *testing.T) {
	setting := fileStep{"set a new long key to something", func(ctx context.Context, f *storetest.Dir) error {
		return f.Set(ctx, fileLong+"3", []byte("x"))
	}, nil}
	for _, step := range append(fileAllSteps(), setting) {
		if !strings.Contains(step.name, "set a new long key") {
			continue
		}
		t.Run(step.name, func(t *testing.T) {
			for n, hit := int64(1), true; hit; n++ {
				mem := fileFilled(t, nil)
				before := fileNames(t, mem)
				fault := &vfstest.Fault{Call: n, Err: syscall.ENOSPC, Match: func(op vfstest.Op, name string) bool {
					return op == vfstest.OpWrite && !strings.HasSuffix(name, "%sessions")
				}}
				f := fileOpen(t, vfstest.Inject(mem, fault.Check), fileMemDir, nil, fileNoKeptLock)
				err := step.do(t.Context(), f)
				if hit = fault.Hit(); hit && err == nil {
					t.Fatalf("write %d failed, but the operation succeeded", n)
				}
				if err != nil && !errors.Is(err, partd.ErrUnknownOutcome) && !maps.Equal(before, fileNames(t, mem)) {
					t.Fatalf("after write %d failed with %v, the store has the files %v, want %v as before", n, err, fileNames(t, mem), before)
				}
			}
		})
	}
}

func fileNames(t *testing.T, mem *vfstest.Mem) map[string]bool {
	t.Helper()
	d := must.Get(mem.ReadDir(fileMemDir))(t)
	entries, err := d.Next(100)
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, e := range entries {
		if e.Name() != "%undo" && e.Name() != "%sessions" {
			all[e.Name()] = true
		}
	}
	must.Do(t, d.Close())
	return all
}

// TestFileSyncOfARecreatedDirectory checks that the store recreates its directory if another process removes it, as
// Python's drop does. With Sync, the directory's name must survive a power failure.
func TestFileSyncOfARecreatedDirectory(t *testing.T) {
	opts := &partd.FileOptions{Sync: true}
	mem := vfstest.NewMem()
	f := fileOpen(t, mem, fileMemDir, opts, fileNoKeptLock)
	fileAppend(t, f, "a", "1")
	for _, name := range []string{"a", "%undo", ".lock"} {
		must.Do(t, mem.Remove(fileMemDir+"/"+name))
	}
	must.Do(t, mem.Remove(fileMemDir))
	must.Do(t, mem.SyncDir("/"))
	fileAppend(t, f, "b", "2")
	fileCheckCrash(t, mem.Crash(nil), opts, -1, map[string]string{"b": "2"})
}

// TestFileSyncOfNewDirectories checks that Sync covers only directories that have a new name. The process may not open
// the others.
func TestFileSyncOfNewDirectories(t *testing.T) {
	mem := vfstest.NewMem()
	must.Do(t, mem.MkdirAll("/old", 0o777))
	synced := map[string]bool{}
	f := fileOpen(t, vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if op == vfstest.OpSyncDir {
			synced[filepath.ToSlash(name)] = true
		}
		return nil
	}), "/old/new/store", nil, fileNoKeptLock)
	fileAppend(t, f, "a", "1")
	must.Do(t, f.Sync(t.Context()))
	if want := map[string]bool{"/old": true, "/old/new": true, "/old/new/store": true}; !maps.Equal(synced, want) {
		t.Errorf("Sync covers the directories %v, want %v", synced, want)
	}
}
