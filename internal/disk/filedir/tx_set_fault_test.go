package filedir_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestFileEveryFaultOfSetUnderKeptFile makes each file system call of a Set fail while the key's file is open and has
// unsynced data. The error must say whether the key has the old or the new value, and a later append and Sync must make
// the value durable.
func TestFileEveryFaultOfSetUnderKeptFile(t *testing.T) {
	set := func(ctx context.Context, f *storetest.Dir) error { return f.Set(ctx, "a", []byte("set")) }
	tagged := fileApplyInNewSession(partd.Operation{Change: partd.ChangeSet, Entries: fileEntries("a", "set")})
	for name, do := range map[string]func(context.Context, *storetest.Dir) error{"set": set, "tagged": tagged} {
		for optName, opts := range fileFaultOpts {
			for _, hooks := range []filedir.Hooks{fileNoKeptLock, {KeepLock: time.Hour}} {
				for n, hit := int64(1), true; hit; n++ {
					for _, errno := range []error{syscall.ENOSPC, syscall.EIO, syscall.EMFILE} {
						fault := &vfstest.Fault{Call: n, Err: errno, ShortWrite: true}
						hit = fileSetWithFault(t, fmt.Sprintf("%s, %s, KeepLock %v, fault in call %d with %v", name, optName, hooks.KeepLock, n, errno), opts, hooks, fault, do)
					}
				}
			}
		}
	}
}

func fileSetWithFault(t *testing.T, label string, opts *partd.FileOptions, hooks filedir.Hooks, fault *vfstest.Fault, do func(context.Context, *storetest.Dir) error) bool {
	t.Helper()
	mem := vfstest.NewMem()
	var enabled atomic.Bool
	f := fileOpen(t, vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if !enabled.Load() {
			return nil
		}
		return fault.Check(op, name)
	}), fileMemDir, opts, hooks)
	fileAppend(t, f, "a", "1", "b", "2")
	enabled.Store(true)
	err := do(t.Context(), f)
	enabled.Store(false)
	hit := fault.Hit()
	got, readErr := fileContent(f)
	if readErr != nil {
		t.Fatalf("%s: the operation returned %v, and then reading the store failed: %v", label, err, readErr)
	}
	before, after := map[string]string{"a": "1", "b": "2"}, map[string]string{"a": "set", "b": "2"}
	isBefore, isAfter := maps.Equal(got, before), maps.Equal(got, after)
	isUnknown := errors.Is(err, partd.ErrUnknownOutcome)
	if !isBefore && !isAfter || err == nil && !isAfter || err != nil && !isUnknown && !isBefore {
		t.Fatalf("%s: the operation returned %v, which does not match the store's content %v", label, err, got)
	}
	appendErr := f.Append(t.Context(), fileEntries("a", "x")...)
	if appendErr == nil {
		got["a"] += "x"
		must.Do(t, f.Sync(t.Context()))
	} else if !errors.Is(appendErr, partd.ErrNeedsReopen) {
		t.Fatalf("%s: the operation returned %v, and the next append %v, want nil or ErrNeedsReopen", label, err, appendErr)
	}
	fileWantContent(t, f, got)
	must.Do(t, f.Close())
	if n := mem.OpenCount(); n != 0 {
		t.Fatalf("%s: %d files are still open after Close", label, n)
	}
	if appendErr == nil {
		mem = mem.Crash(nil)
	}
	reopened := fileOpen(t, mem, fileMemDir, opts, fileNoKeptLock)
	fileWantContent(t, reopened, got)
	must.Do(t, reopened.Close())
	return hit
}

// TestFileFailedCloseOfAnUndoneFile checks that a failure to close a file that a failed append created is harmless.
func TestFileFailedCloseOfAnUndoneFile(t *testing.T) {
	mem := vfstest.NewMem()
	enabled := false
	f := fileOpen(t, vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if enabled && (op == vfstest.OpWrite && name == fileMemDir+"/b" || op == vfstest.OpClose && name == fileMemDir+"/a") {
			return syscall.EIO
		}
		return nil
	}), fileMemDir, nil, fileNoKeptLock)
	enabled = true
	err := f.Append(t.Context(), fileEntries("a", "1", "b", "2")...)
	enabled = false
	if !errors.Is(err, syscall.EIO) || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Fatalf("Append with faults: error %v, want EIO and a known outcome", err)
	}
	fileAppend(t, f, "a", "3")
	fileWantContent(t, f, map[string]string{"a": "3"})
}
