package filedir_test

import (
	"errors"
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

// TestFileEveryFaultUnderKeptLock makes each file system call in a sequence of operations fail once, while the store
// keeps its lock between operations and therefore does not look up its files again. The failed operation must change
// nothing, and later operations must find the results of earlier ones.
func TestFileEveryFaultUnderKeptLock(t *testing.T) {
	for optName, opts := range fileFaultOpts {
		t.Run(optName, func(t *testing.T) {
			for n := int64(1); ; n++ {
				for _, errno := range []error{syscall.ENOSPC, syscall.EMFILE} {
					fault := &vfstest.Fault{Call: n, Err: errno, ShortWrite: true}
					if !fileRunKeptLock(t, opts, fault) {
						if n < 20 {
							t.Fatalf("only %d calls were tried, want at least 20", n)
						}
						return
					}
				}
			}
		})
	}
}

// fileRunKeptLock runs the sequence with one fault, and reports whether it occurred.
func fileRunKeptLock(t *testing.T, opts *partd.FileOptions, fault *vfstest.Fault) bool {
	t.Helper()
	mem := vfstest.NewMem()
	var enabled atomic.Bool // the kept lock is released in the background
	fsys := vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if !enabled.Load() {
			return nil
		}
		return fault.Check(op, name)
	})
	f := fileOpen(t, fsys, fileMemDir, opts, filedir.Hooks{KeepLock: time.Hour})
	enabled.Store(true)
	models := []map[string]string{{}} // allowed contents
	check := func(store string, f *storetest.Dir) {
		t.Helper()
		got, err := fileContent(f)
		if err != nil {
			t.Fatalf("fault %[2]v in call %[1]d: reading %[3]s: %[4]v", fault.Call, fault.Err, store, err)
		}
		for _, m := range models {
			if maps.Equal(m, got) {
				return
			}
		}
		t.Fatalf("fault %[2]v in call %[1]d: wrong content of %[3]s:\n%[4]s", fault.Call, fault.Err, store, fileDiff(got, models[0]))
	}
	for step, entries := range [][]partd.Entry{
		fileEntries("a", "1", "b", "2"),           // creates files
		fileEntries("b", "3", "c", "4", "a", "5"), // appends to existing and new files
		fileEntries("d", "6"),
		fileEntries("a", "7", "d", "8", "e", "9", "b", fileLarge),
		fileEntries("e", "x", "c", "y", fileLong, "z"),
		fileEntries(fileLong, "!", "b", "end"),
	} {
		err := f.Append(t.Context(), entries...)
		if err != nil && !fault.Hit() && !errors.Is(err, partd.ErrNeedsReopen) {
			t.Fatalf("fault in call %d, step %d: Append failed before the fault: %v", fault.Call, step, err)
		}
		for _, before := range models {
			after := maps.Clone(before)
			for _, e := range entries {
				after[e.Key] += string(e.Value)
			}
			if errors.Is(err, partd.ErrUnknownOutcome) {
				models = append(models, after)
			} else if err == nil {
				clear(before)
				maps.Copy(before, after)
			}
		}
		if err != nil {
			enabled.Store(false)
			check("the store right after the failure", f)
			enabled.Store(true)
		}
	}
	hit := fault.Hit()
	enabled.Store(false)
	check("the same store", f)
	must.Do(t, f.Close())
	check("a reopened store", fileOpen(t, mem, fileMemDir, opts, fileNoKeptLock))
	return hit
}
