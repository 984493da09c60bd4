package partd

import (
	"errors"
	"maps"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/filedir"
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

// With a lock that is kept, what a store knows of its files is not looked up
// again between operations. Each call of a whole sequence of operations fails
// once: the operation that it hit has changed nothing, and those after it find
// what those before it left.
func TestFileEveryFaultUnderKeptLock(t *testing.T) {
	for optName, opts := range fileFaultOpts {
		t.Run(optName, func(t *testing.T) {
			for n := int64(1); ; n++ {
				for _, errno := range []error{syscall.ENOSPC, syscall.EMFILE} {
					fault := &vfstest.Fault{At: n, Err: errno, Short: true}
					if !fileKeptLife(t, opts, fault) {
						if n < 20 {
							t.Fatalf("only %d calls were tried", n)
						}
						return
					}
				}
			}
		})
	}
}

// fileKeptLife runs the sequence with one fault, and reports whether it came.
func fileKeptLife(t *testing.T, opts *FileOptions, fault *vfstest.Fault) bool {
	t.Helper()
	mem := vfstest.NewMem()
	var on atomic.Bool // the kept lock is let go of in the background
	fsys := vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if !on.Load() {
			return nil
		}
		return fault.Check(op, name)
	})
	f := fileOpen(t, fsys, fileMemDir, opts, filedir.Hooks{KeepLock: time.Hour})
	on.Store(true)
	models := []map[string]string{{}} // what the store may hold
	check := func(who string, f *File) {
		t.Helper()
		got, err := fileContent(f)
		if err != nil {
			t.Fatalf("call %d, %v: %s: %v", fault.At, fault.Err, who, err)
		}
		for _, m := range models {
			if maps.Equal(m, got) {
				return
			}
		}
		t.Fatalf("call %d, %v: %s:\n%s", fault.At, fault.Err, who, fileDiff(got, models[0]))
	}
	for step, entries := range [][]Entry{
		fileEntries("a", "1", "b", "2"),           // makes files
		fileEntries("b", "3", "c", "4", "a", "5"), // and adds to them
		fileEntries("d", "6"),
		fileEntries("a", "7", "d", "8", "e", "9", "b", fileLarge),
		fileEntries("e", "x", "c", "y", fileLong, "z"),
		fileEntries(fileLong, "!", "b", "end"),
	} {
		err := f.Append(t.Context(), entries...)
		if err != nil && !fault.Hit() && !errors.Is(err, ErrNeedsReopen) {
			t.Fatalf("call %d, step %d: there was no fault, but %v", fault.At, step, err)
		}
		for _, before := range models {
			after := maps.Clone(before)
			for _, e := range entries {
				after[e.Key] += string(e.Value)
			}
			if errors.Is(err, ErrUnknownOutcome) {
				models = append(models, after)
			} else if err == nil {
				clear(before)
				maps.Copy(before, after)
			}
		}
		if err != nil {
			on.Store(false)
			check("right after it", f)
			on.Store(true)
		}
	}
	hit := fault.Hit()
	on.Store(false)
	check("the same store", f)
	must(t, f.Close())
	check("another store", fileOpen(t, mem, fileMemDir, opts, fileAtOnce))
	return hit
}
