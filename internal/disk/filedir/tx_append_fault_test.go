package filedir_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
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
// closes and reopens files within a batch. If four may be, it closes all of them when too many are open.
var fileFaultOpts = map[string]*partd.FileOptions{
	"plain": {}, "sync": {Sync: true}, "max open 2": {MaxOpenFiles: 2}, "max open 2, sync": {MaxOpenFiles: 2, Sync: true},
	"max open 4, sync": {MaxOpenFiles: 4, Sync: true},
}

// TestFileEveryFault makes each file system call of each operation fail, either only that call or all later calls
// too. The operation's error must say whether the content is the old or the new one. Later operations and reopening the
// store must not change that. If the method Sync then returns nil, the whole content must survive a power failure. Sync
// must not return nil after a failed sync.
func TestFileEveryFault(t *testing.T) {
	errnos := []error{syscall.ENOSPC, syscall.EIO, syscall.EMFILE}
	tryAllErrnos := os.Getenv("PARTD_FAULTS") != ""
	for optName, opts := range fileFaultOpts {
		for stateName, state := range fileStates {
			if opts.Sync && state.isSynced || opts.MaxOpenFiles == 4 && stateName != "written" {
				continue // other options make the same calls
			}
			steps := fileAllSteps()
			if state.isReopened {
				steps = fileSteps // TestFileApplyEveryFault tests the others
			}
			for _, step := range steps {
				for i, persists := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%s/%s/persists=%v", optName, stateName, step.name, persists), func(t *testing.T) {
						t.Parallel()
						start := fileFilled(t, opts)
						for n, hit := int64(1), true; hit; n += faultStep {
							errnosPerCall := errnos // all errors for each call, or only one by default
							if !tryAllErrnos && (persists || opts.MaxOpenFiles != 4) {
								errnosPerCall = errnos[(int(n)+i)%len(errnos):][:1]
							}
							for _, errno := range errnosPerCall {
								fault := &vfstest.Fault{Call: n, Err: errno, Persists: persists, ShortWrite: true}
								hit = fileRunWithFault(t, start, opts, state, fault, step)
							}
							if !hit && n < 3 && state.keepLock < 0 {
								t.Fatalf("only %d calls were tried, want at least 3", n)
							}
						}
					})
				}
			}
		}
	}
}

// fileState is how a store was used before an operation with a fault.
type fileState struct {
	isReopened bool // a process has opened the store again and read some keys; otherwise, it has written all keys
	isSynced   bool
	keepLock   time.Duration
}

// fileStates lists the states. A store that keeps its lock does not look up its files again.
var fileStates = map[string]fileState{
	"reopened": {true, false, -1}, "written": {false, false, -1}, "synced": {false, true, -1}, "written under a kept lock": {false, false, time.Hour},
}

// fileRunWithFault tries one fault, and reports whether it occurred.
func fileRunWithFault(t *testing.T, start *vfstest.Mem, opts *partd.FileOptions, state fileState, fault *vfstest.Fault, step fileStep) bool {
	t.Helper()
	mem := vfstest.NewMem()
	if state.isReopened {
		mem = start.KillClone()
	}
	var enabled, syncFailed atomic.Bool // a kept lock is released in the background
	f := fileOpen(t, vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if !enabled.Load() {
			return nil
		}
		err := fault.Check(op, name)
		if err != nil && (op == vfstest.OpSync || op == vfstest.OpSyncDir) {
			syncFailed.Store(true)
		}
		return err
	}), fileMemDir, opts, filedir.Hooks{KeepLock: state.keepLock})
	if state.isReopened {
		must.Get(f.Get(t.Context(), "a", "c"))(t)
	} else {
		for _, e := range fileMapEntries(fileStart) {
			must.Do(t, f.Append(t.Context(), e))
		}
	}
	if state.isSynced {
		must.Do(t, f.Sync(t.Context()))
	}
	enabled.Store(true)
	err := step.do(t.Context(), f)
	hit := fault.Hit()
	enabled.Store(false)

	failf := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("call %d fails with %v: the operation returned the error %v\n%s", fault.Call, fault.Err, err, fmt.Sprintf(format, args...))
	}
	if err != nil && !hit {
		failf("the operation failed although the fault did not occur")
	}
	want := []map[string]string{fileStart, fileContentAfter(step.want)} // allowed contents
	switch {
	case err == nil:
		want = want[1:]
	case !errors.Is(err, partd.ErrUnknownOutcome):
		want = want[:1]
	}
	check := func(store string, f *storetest.Dir) map[string]string {
		t.Helper()
		got, readErr := fileContent(f)
		if readErr != nil || !slices.ContainsFunc(want, func(m map[string]string) bool { return maps.Equal(m, got) }) {
			failf("%s (error %v): %s", store, readErr, fileDiff(got, want[0]))
		}
		return got
	}
	open := func(mem *vfstest.Mem, hooks filedir.Hooks) *storetest.Dir {
		t.Helper()
		f, openErr := storetest.OpenDir(mem, fileMemDir, opts, hooks)
		if openErr != nil {
			failf("reopening the store: %v", openErr)
		}
		return f
	}
	closeStore := func(f *storetest.Dir) {
		t.Helper()
		if closeErr := f.Close(); closeErr != nil {
			failf("Close: %v", closeErr)
		}
	}
	want = []map[string]string{check("the same store", f)} // from now on, the content must not change
	if state.isReopened {
		other := open(mem, fileNoKeptLock)
		check("another store", other)
		closeStore(other)
	}
	// Writes must either work, or be refused until the store is reopened.
	later := fileEntries("later", "x", "a", "y", "new", "z", fileLong, "x")
	if fault.Persists == (fault.Call%2 == 0) {
		later = nil // Sync must also do without this append, which marks the same files as unsynced again
	}
	if writeErr := f.Append(t.Context(), later...); writeErr == nil {
		want[0] = maps.Clone(want[0])
		for _, e := range later {
			want[0][e.Key] += string(e.Value)
		}
	} else if !errors.Is(writeErr, partd.ErrNeedsReopen) {
		failf("the next append: error %v, want nil or ErrNeedsReopen", writeErr)
	}
	syncErr := f.Sync(t.Context())
	if syncErr == nil && syncFailed.Load() || syncErr != nil && !errors.Is(syncErr, partd.ErrNeedsReopen) {
		failf("Sync: error %v, want nil or ErrNeedsReopen, and nil only if no earlier sync failed: %v", syncErr, !syncFailed.Load())
	}
	check("the same store, later", f)
	closeStore(f)
	if syncErr == nil && !state.isReopened { // Sync does not cover what an earlier process wrote
		rnd, seen := rand.New(rand.NewPCG(uint64(fault.Call), 1)), fileSeen{}
		mem.ZeroLostPages = fault.Call%2 == 0
		for _, r := range []*rand.Rand{rnd, rnd, rnd, rnd, nil} {
			if crashed := mem.Crash(r); seen.isNew(crashed) {
				g := open(crashed, filedir.Hooks{KeepLock: -1, Boot: 99})
				check("after a power failure", g)
				closeStore(g)
			}
		}
	}
	other := open(mem, fileNoKeptLock)
	check("another store, later", other)
	closeStore(other)
	if _, err := mem.Info(fileMemDir + "/%tmp"); err == nil {
		failf("reopening the store did not remove the temporary file %%tmp")
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
	must.Do(t, err)
	enabled = true
	err = do(t.Context(), f)
	enabled = false
	must.Do(t, err)
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
		must.Do(t, err)
		n++
		failing.Store(true)
		break
	}
	if n != 1 {
		t.Fatalf("Scan yielded %d chunks, want 1", n)
	}
}

// fileAllSteps returns operations with and without tags, because these use different code.
func fileAllSteps() []fileStep {
	steps := slices.Clone(fileSteps)
	for _, s := range fileTaggedOps {
		steps = append(steps, fileStep{"tagged " + s.name, fileApplyInNewSession(s.op), s.want})
	}
	return steps
}

func fileApplyInNewSession(op partd.Operation) func(ctx context.Context, f *storetest.Dir) error {
	return func(ctx context.Context, f *storetest.Dir) error {
		session, err := f.NewSession(ctx)
		if err != nil {
			return err
		}
		_, err = f.Apply(ctx, partd.Tag{Session: session, Number: 1}, op)
		return err
	}
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
