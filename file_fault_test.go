package partd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/testutil/race"
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

const fileMemDir = "/store"

var (
	fileLong  = strings.Repeat("long!", 100)
	fileLarge = strings.Repeat("large", 5000)
)

// fileSteps are operations on a store that has the content fileStart, each with
// what it leads to.
var fileStart = map[string]string{"a": "1", "b!": "2", "c": fileLarge, fileLong: "4", "": "5", "t-|-u": "6"}

type fileStep struct {
	name string
	do   func(ctx context.Context, f *File) error
	want func(m map[string]string)
}

var fileSteps = []fileStep{
	{"append", func(ctx context.Context, f *File) error {
		return f.Append(ctx, fileEntries("a", "x", "c", fileLarge, "new", "n", fileLong, "l", "a", "y", fileLong+"2", "m", "b!", "z", "t-|-u", "t", "n-|-m", "o")...)
	}, func(m map[string]string) {
		m["a"] += "xy"
		m["b!"] += "z"
		m["c"] += fileLarge
		m["new"] = "n"
		m["t-|-u"] += "t"
		m["n-|-m"] = "o"
		m[fileLong] += "l"
		m[fileLong+"2"] = "m"
	}},
	{"append to one key", func(ctx context.Context, f *File) error {
		return f.Append(ctx, fileEntries("a", "x")...)
	}, func(m map[string]string) { m["a"] += "x" }},
	{"set", func(ctx context.Context, f *File) error { return f.Set(ctx, "a", []byte("set")) }, func(m map[string]string) { m["a"] = "set" }},
	{"set a new long key", func(ctx context.Context, f *File) error { return f.Set(ctx, fileLong+"2", nil) }, func(m map[string]string) { m[fileLong+"2"] = "" }},
	{"set once", func(ctx context.Context, f *File) error { return f.SetOnce(ctx, "new", []byte("set")) }, func(m map[string]string) { m["new"] = "set" }},
	{"delete one", func(ctx context.Context, f *File) error { return f.Delete(ctx, fileLong) }, func(m map[string]string) { delete(m, fileLong) }},
	{"delete", func(ctx context.Context, f *File) error { return f.Delete(ctx, "a", "none", fileLong, "") }, func(m map[string]string) {
		delete(m, "a")
		delete(m, fileLong)
		delete(m, "")
	}},
	{"pop", func(ctx context.Context, f *File) error {
		v, err := f.Pop(ctx, "a", "c")
		if err == nil && (string(v[0]) != "1" || string(v[1]) != fileLarge) {
			return fmt.Errorf("Pop returned %.20q", v)
		}
		return err
	}, func(m map[string]string) {
		delete(m, "a")
		delete(m, "c")
	}},
	{"drop", func(ctx context.Context, f *File) error { return f.Drop(ctx) }, func(m map[string]string) { clear(m) }},
	{"sync", func(ctx context.Context, f *File) error { return f.Sync(ctx) }, func(map[string]string) {}},
}

func fileAfter(change func(m map[string]string)) map[string]string {
	m := maps.Clone(fileStart)
	change(m)
	return m
}

func fileMapEntries(m map[string]string) []Entry {
	values := map[string][]byte{}
	for k, v := range m {
		values[k] = []byte(v)
	}
	return Entries(values)
}

// fileFilled returns a file system with a store that holds fileStart.
func fileFilled(t *testing.T, opts *FileOptions) *vfstest.Mem {
	t.Helper()
	mem := vfstest.NewMem()
	f := fileOpen(t, mem, fileMemDir, opts, fileAtOnce)
	for _, e := range fileMapEntries(fileStart) {
		if err := f.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if n := mem.OpenCount(); n != 0 {
		t.Fatalf("%d files are still open after Close", n)
	}
	return mem
}

// faultStep is how far one fault is from the next: one goroutine does all, and some
// calls show the race detector what each would.
var faultStep = map[bool]int64{false: 1, true: 4}[race.On]

// fileFaultOpts are the stores that faults are tried on. With room for two open
// files, descriptors come and go within a batch.
var fileFaultOpts = map[string]*FileOptions{
	"plain": {}, "sync": {Sync: true}, "two open": {MaxOpenFiles: 2}, "two open, sync": {MaxOpenFiles: 2, Sync: true},
}

// Every call to the file system fails once, and from then on, at every point of
// every operation: the state is the one before or the one after, the error says
// so, and opening the store again finds the same.
func TestFileEveryFault(t *testing.T) {
	errnos := []error{syscall.ENOSPC, syscall.EIO, syscall.EMFILE}
	all := os.Getenv("PARTD_FAULTS") != ""
	for optName, opts := range fileFaultOpts {
		for _, step := range fileSteps {
			for i, stays := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/stays=%v", optName, step.name, stays), func(t *testing.T) {
					start := fileFilled(t, opts)
					for n, hit := int64(1), true; hit; n += faultStep {
						some := errnos // each call fails with each, or with one of them
						if !all {
							some = errnos[(int(n)+i)%len(errnos):][:1]
						}
						for _, errno := range some {
							fault := &vfstest.Fault{At: n, Err: errno, Stays: stays, Short: true}
							hit = fileFaultAt(t, start.KillClone(), opts, fault, step.do, fileAfter(step.want))
						}
						if !hit && n < 5 {
							t.Fatalf("only %d calls were tried", n)
						}
					}
				})
			}
		}
	}
}

// fileFaultAt tries one fault, and reports whether it came.
func fileFaultAt(t *testing.T, mem *vfstest.Mem, opts *FileOptions, fault *vfstest.Fault,
	do func(context.Context, *File) error, after map[string]string,
) bool {
	t.Helper()
	on := false
	fsys := vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if !on {
			return nil
		}
		return fault.Check(op, name)
	})
	f, err := openFile(fsys, fileMemDir, opts, fileAtOnce)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(t.Context(), "a", "c"); err != nil {
		t.Fatal(err)
	}
	on = true
	err = do(t.Context(), f)
	hit := fault.Hit()
	on = false

	complain := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("call %d: the operation's error was %v\n%s", fault.At, err, fmt.Sprintf(format, args...))
	}
	var want []map[string]string // what is allowed
	switch {
	case err == nil:
		want = append(want, after)
	case errors.Is(err, ErrUnknownOutcome):
		want = append(want, fileStart, after)
	default:
		want = append(want, fileStart)
	}
	if err != nil && !hit {
		complain("there was no fault")
	}
	check := func(who string, f *File) {
		t.Helper()
		got, readErr := fileContent(f)
		if readErr != nil {
			complain("%s: %v", who, readErr)
		}
		if !slices.ContainsFunc(want, func(m map[string]string) bool { return maps.Equal(m, got) }) {
			complain("%s: %s", who, fileDiff(got, want[0]))
		}
	}
	check("the same store", f)
	other, openErr := openFile(mem, fileMemDir, opts, fileAtOnce)
	if openErr != nil {
		complain("opening it again: %v", openErr)
	}
	check("another store", other)
	want = nil
	if got, readErr := fileContent(other); readErr == nil {
		want = append(want, got) // it stays so
	}
	// Writes go on, or are refused until the store is opened again.
	writeErr := f.Append(t.Context(), Entry{Key: "later", Value: []byte("x")})
	if writeErr != nil && !errors.Is(writeErr, ErrNeedsReopen) {
		complain("the next append: %v", writeErr)
	}
	if writeErr == nil {
		want[0]["later"] = "x"
	}
	check("the same store, later", f)
	if closeErr := f.Close(); closeErr != nil {
		complain("Close: %v", closeErr)
	}
	check("another store, later", other)
	if _, err := mem.Info(fileMemDir + "/%tmp"); err == nil {
		if err := other.Close(); err != nil {
			complain("Close: %v", err)
		}
		if other, openErr = openFile(mem, fileMemDir, opts, fileAtOnce); openErr != nil {
			complain("opening it again: %v", openErr)
		}
		if _, err := mem.Info(fileMemDir + "/%tmp"); err == nil {
			complain("the temporary file outlives opening the store")
		}
	}
	if closeErr := other.Close(); closeErr != nil {
		complain("Close: %v", closeErr)
	}
	if n := mem.OpenCount(); n != 0 {
		complain("%d files are still open", n)
	}
	return hit
}

// Each operation is cut by kill -9 before every call to the file system: what
// the next process finds is the state before or the one after.
func TestFileEveryKill(t *testing.T) {
	for optName, opts := range fileFaultOpts {
		for _, step := range fileSteps {
			t.Run(optName+"/"+step.name, func(t *testing.T) {
				start := fileFilled(t, opts)
				fileCutAt(t, start, opts, step.do, func(mem *vfstest.Mem, n int) {
					f, err := openFile(mem, fileMemDir, opts, fileAtOnce)
					if err != nil {
						t.Fatalf("killed before call %d: %v", n, err)
					}
					fileWantEither(t, f, fmt.Sprintf("killed before call %d", n), fileStart, fileAfter(step.want))
					f.Close()
				})
			})
		}
	}
}

// fileCutAt runs an operation, and hands the state before each of its calls to
// the file system, and after the last, to check.
func fileCutAt(t *testing.T, start *vfstest.Mem, opts *FileOptions, do func(context.Context, *File) error, check func(mem *vfstest.Mem, n int)) {
	t.Helper()
	mem := start.KillClone()
	on, n := false, 0
	f, err := openFile(vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
		if on && op.Changes() {
			n++
			check(mem.KillClone(), n)
		}
		return nil
	}), fileMemDir, opts, fileAtOnce)
	if err != nil {
		t.Fatal(err)
	}
	on = true
	err = do(t.Context(), f)
	on = false
	if err != nil {
		t.Fatal(err)
	}
	check(mem.KillClone(), n+1)
	f.Close()
}

func fileWantEither(t *testing.T, f *File, when string, allowed ...map[string]string) {
	t.Helper()
	got, err := fileContent(f)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	for _, m := range allowed {
		if maps.Equal(got, m) {
			return
		}
	}
	t.Fatalf("%s: neither before nor after:\n%s", when, fileDiff(got, allowed[0]))
}

// What finishes or undoes an operation is cut by kill -9 as well, at each call.
func TestFileEveryKillWhileReplaying(t *testing.T) {
	for _, step := range fileSteps {
		t.Run(step.name, func(t *testing.T) {
			start := fileFilled(t, nil)
			fileCutAt(t, start, nil, step.do, func(cut *vfstest.Mem, n int) {
				on := false
				calls := 0
				f, err := openFile(vfstest.Inject(cut, func(op vfstest.Op, _ string) error {
					if !op.Changes() || on {
						return nil
					}
					calls++
					again, err := openFile(cut.KillClone(), fileMemDir, nil, fileAtOnce)
					if err != nil {
						t.Fatalf("killed before call %d, and before call %d of opening: %v", n, calls, err)
					}
					fileWantEither(t, again, fmt.Sprintf("killed before call %d, and before call %d of opening", n, calls),
						fileStart, fileAfter(step.want))
					again.Close()
					return nil
				}), fileMemDir, nil, fileAtOnce)
				if err != nil {
					t.Fatal(err)
				}
				on = true
				f.Close()
			})
		})
	}
}

// A scan that its caller ends yields nothing more, though a file cannot be closed.
func TestFileScanEndsDespiteClose(t *testing.T) {
	var failing atomic.Bool
	f := fileOpen(t, vfstest.Inject(vfstest.NewMem(), func(op vfstest.Op, _ string) error {
		if op == vfstest.OpClose && failing.Load() {
			return syscall.EIO
		}
		return nil
	}), fileMemDir, nil, fileAtOnce)
	fileAppend(t, f, "a", "1", "b", "2")
	defer failing.Store(false)
	n := 0
	for _, err := range f.Scan(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		failing.Store(true)
		break
	}
	if n != 1 {
		t.Fatalf("%d chunks", n)
	}
}
