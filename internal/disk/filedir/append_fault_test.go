package filedir_test

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

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

const fileMemDir = "/store"

var (
	fileLong  = strings.Repeat("long!", 100)
	fileLarge = strings.Repeat("large", 5000)
)

// fileStart is the content of the store before each step.
var fileStart = map[string]string{"a": "1", "b!": "2", "c": fileLarge, fileLong: "4", "": "5", "t-|-u": "6"}

// faultStep is the distance between failing calls: each call fails in turn or, with the slow race detector, each
// fourth.
var faultStep = map[bool]int64{false: 1, true: 4}[procs.RaceEnabled]

// fileFaultOpts lists the options of the stores to test with faults. If only two files may be open, the store
// closes and reopens files within a batch.
var fileFaultOpts = map[string]*partd.FileOptions{
	"plain": {}, "sync": {Sync: true}, "max open 2": {MaxOpenFiles: 2}, "max open 2, sync": {MaxOpenFiles: 2, Sync: true},
}

// TestFileEveryFault makes each file system call of each operation fail, either only that call or all later calls
// too. The operation's error must say whether the content is the old or the new one, and reopening the store must
// not change the content.
func TestFileEveryFault(t *testing.T) {
	errnos := []error{syscall.ENOSPC, syscall.EIO, syscall.EMFILE}
	tryAllErrnos := os.Getenv("PARTD_FAULTS") != ""
	for optName, opts := range fileFaultOpts {
		for _, step := range fileSteps {
			for i, persists := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/persists=%v", optName, step.name, persists), func(t *testing.T) {
					start := fileFilled(t, opts)
					for n, hit := int64(1), true; hit; n += faultStep {
						errnosPerCall := errnos // all errors for each call, or only one by default
						if !tryAllErrnos {
							errnosPerCall = errnos[(int(n)+i)%len(errnos):][:1]
						}
						for _, errno := range errnosPerCall {
							fault := &vfstest.Fault{Call: n, Err: errno, Persists: persists, ShortWrite: true}
							hit = fileRunWithFault(t, start.KillClone(), opts, fault, step.do, fileContentAfter(step.want))
						}
						if !hit && n < 5 {
							t.Fatalf("only %d calls were tried, want at least 5", n)
						}
					}
				})
			}
		}
	}
}

// fileRunWithFault tries one fault, and reports whether it occurred.
func fileRunWithFault(t *testing.T, mem *vfstest.Mem, opts *partd.FileOptions, fault *vfstest.Fault,
	do func(context.Context, *storetest.Dir) error, after map[string]string,
) bool {
	t.Helper()
	enabled := false
	fsys := vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if !enabled {
			return nil
		}
		return fault.Check(op, name)
	})
	f, err := storetest.OpenDir(fsys, fileMemDir, opts, fileNoKeptLock)
	if err != nil {
		t.Fatal(err)
	}
	must.Get(f.Get(t.Context(), "a", "c"))(t)
	enabled = true
	err = do(t.Context(), f)
	hit := fault.Hit()
	enabled = false

	failf := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("fault in call %d: the operation returned the error %v\n%s", fault.Call, err, fmt.Sprintf(format, args...))
	}
	var want []map[string]string // allowed contents
	switch {
	case err == nil:
		want = append(want, after)
	case errors.Is(err, partd.ErrUnknownOutcome):
		want = append(want, fileStart, after)
	default:
		want = append(want, fileStart)
	}
	if err != nil && !hit {
		failf("the operation failed although the fault did not occur")
	}
	check := func(store string, f *storetest.Dir) {
		t.Helper()
		got, readErr := fileContent(f)
		if readErr != nil {
			failf("%s: %v", store, readErr)
		}
		if !slices.ContainsFunc(want, func(m map[string]string) bool { return maps.Equal(m, got) }) {
			failf("%s: %s", store, fileDiff(got, want[0]))
		}
	}
	check("the same store", f)
	other, openErr := storetest.OpenDir(mem, fileMemDir, opts, fileNoKeptLock)
	if openErr != nil {
		failf("reopening the store: %v", openErr)
	}
	check("another store", other)
	want = nil
	if got, readErr := fileContent(other); readErr == nil {
		want = append(want, got) // from now on, the content must not change
	}
	// Writes must either work, or be refused until the store is reopened.
	writeErr := f.Append(t.Context(), partd.Entry{Key: "later", Value: []byte("x")})
	if writeErr != nil && !errors.Is(writeErr, partd.ErrNeedsReopen) {
		failf("the next append: error %v, want nil or ErrNeedsReopen", writeErr)
	}
	if writeErr == nil {
		want[0]["later"] = "x"
	}
	check("the same store, later", f)
	if closeErr := f.Close(); closeErr != nil {
		failf("Close: %v", closeErr)
	}
	check("another store, later", other)
	if _, err := mem.Info(fileMemDir + "/%tmp"); err == nil {
		if err := other.Close(); err != nil {
			failf("Close: %v", err)
		}
		if other, openErr = storetest.OpenDir(mem, fileMemDir, opts, fileNoKeptLock); openErr != nil {
			failf("reopening the store: %v", openErr)
		}
		if _, err := mem.Info(fileMemDir + "/%tmp"); err == nil {
			failf("reopening the store did not remove the temporary file %%tmp")
		}
	}
	if closeErr := other.Close(); closeErr != nil {
		failf("Close: %v", closeErr)
	}
	if n := mem.OpenCount(); n != 0 {
		failf("%d files are still open after Close", n)
	}
	return hit
}

// TestFileEveryKill simulates kill -9 before each file system call. The old or the new content must survive.
func TestFileEveryKill(t *testing.T) {
	for optName, opts := range fileFaultOpts {
		for _, step := range fileSteps {
			t.Run(optName+"/"+step.name, func(t *testing.T) {
				start := fileFilled(t, opts)
				fileCutAt(t, start, opts, step.do, func(mem *vfstest.Mem, n int) {
					f, err := storetest.OpenDir(mem, fileMemDir, opts, fileNoKeptLock)
					if err != nil {
						t.Fatalf("killed before call %d: %v", n, err)
					}
					fileWantEither(t, f, fmt.Sprintf("killed before call %d", n), fileStart, fileContentAfter(step.want))
					f.Close()
				})
			})
		}
	}
}

// fileCutAt runs an operation. It calls check with a copy of the file system before each file system call that
// changes something, and after the last one.
func fileCutAt(t *testing.T, start *vfstest.Mem, opts *partd.FileOptions, do func(context.Context, *storetest.Dir) error, check func(mem *vfstest.Mem, n int)) {
	t.Helper()
	mem := start.KillClone()
	enabled, n := false, 0
	f, err := storetest.OpenDir(vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
		if enabled && op.Changes() {
			n++
			check(mem.KillClone(), n)
		}
		return nil
	}), fileMemDir, opts, fileNoKeptLock)
	if err != nil {
		t.Fatal(err)
	}
	enabled = true
	err = do(t.Context(), f)
	enabled = false
	if err != nil {
		t.Fatal(err)
	}
	check(mem.KillClone(), n+1)
	f.Close()
}

func fileWantEither(t *testing.T, f *storetest.Dir, label string, allowed ...map[string]string) {
	t.Helper()
	got, err := fileContent(f)
	if err != nil {
		t.Fatalf("%s: reading the store: %v", label, err)
	}
	for _, m := range allowed {
		if maps.Equal(got, m) {
			return
		}
	}
	t.Fatalf("%s: the content is neither the old nor the new one:\n%s", label, fileDiff(got, allowed[0]))
}

// TestFileEveryKillWhileReplaying kills a process during each operation, and then also the process that opens the
// store and completes or undoes the interrupted operation.
func TestFileEveryKillWhileReplaying(t *testing.T) {
	for _, step := range fileSteps {
		t.Run(step.name, func(t *testing.T) {
			start := fileFilled(t, nil)
			fileCutAt(t, start, nil, step.do, func(cut *vfstest.Mem, n int) {
				opened := false
				calls := 0
				f := must.Get(storetest.OpenDir(vfstest.Inject(cut, func(op vfstest.Op, _ string) error {
					if !op.Changes() || opened {
						return nil
					}
					calls++
					reopened, err := storetest.OpenDir(cut.KillClone(), fileMemDir, nil, fileNoKeptLock)
					if err != nil {
						t.Fatalf("killed before call %d, and before call %d of opening: %v", n, calls, err)
					}
					fileWantEither(t, reopened, fmt.Sprintf("killed before call %d, and before call %d of opening", n, calls),
						fileStart, fileContentAfter(step.want))
					reopened.Close()
					return nil
				}), fileMemDir, nil, fileNoKeptLock))(t)
				opened = true
				f.Close()
			})
		})
	}
}

// TestFileScanEndsDespiteClose checks that a scan yields nothing after its caller stops it, even if closing a file
// fails.
func TestFileScanEndsDespiteClose(t *testing.T) {
	var failing atomic.Bool
	f := fileOpen(t, vfstest.Inject(vfstest.NewMem(), func(op vfstest.Op, _ string) error {
		if op == vfstest.OpClose && failing.Load() {
			return syscall.EIO
		}
		return nil
	}), fileMemDir, nil, fileNoKeptLock)
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
		t.Fatalf("Scan yielded %d chunks, want 1", n)
	}
}
