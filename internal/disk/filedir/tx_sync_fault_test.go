package filedir_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

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

// TestFileSyncAfterEveryFault makes each file system call of each operation fail, in a store without the option Sync.
// Either only that call fails, or all later calls too. If the method Sync then returns nil, the whole content must
// survive a power failure. Sync must not return nil after a failed sync.
func TestFileSyncAfterEveryFault(t *testing.T) {
	errnos := []error{syscall.ENOSPC, syscall.EIO, syscall.EMFILE}
	tryAll := os.Getenv("PARTD_FAULTS") != ""
	for _, maxOpen := range []int{0, 2} {
		for _, synced := range []bool{false, true} {
			for _, step := range fileAllSteps() {
				for i, persists := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/open=%d/synced=%v/persists=%v", step.name, maxOpen, synced, persists), func(t *testing.T) {
						t.Parallel()
						for n, hit := int64(1), true; hit; n += faultStep {
							errnosPerCall := errnos
							if !tryAll {
								errnosPerCall = errnos[(int(n)+i)%len(errnos):][:1]
							}
							for _, errno := range errnosPerCall {
								fault := &vfstest.Fault{Call: n, Err: errno, Persists: persists, ShortWrite: true}
								hit = fileSyncAfterFault(t, &partd.FileOptions{MaxOpenFiles: maxOpen}, synced, fault, step)
							}
						}
					})
				}
			}
		}
	}
}

// TestFileAppendFaultThenPowerLoss makes each file system call of an append with Sync fail once, and then simulates
// power failures. The store reopens files within the append, and closes all of them when too many are open.
func TestFileAppendFaultThenPowerLoss(t *testing.T) {
	for _, errno := range []error{syscall.EMFILE, syscall.ENOSPC} {
		for n, hit := int64(1), true; hit; n++ {
			fault := &vfstest.Fault{Call: n, Err: errno, ShortWrite: true}
			hit = fileSyncAfterFault(t, &partd.FileOptions{Sync: true, MaxOpenFiles: 4}, false, fault, fileSteps[0])
		}
	}
}

// fileSyncAfterFault tries one fault, and reports whether it occurred.
func fileSyncAfterFault(t *testing.T, opts *partd.FileOptions, synced bool, fault *vfstest.Fault, step fileStep) bool {
	t.Helper()
	mem := vfstest.NewMem()
	enabled, syncFailed := false, false
	f, err := storetest.OpenDir(vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if !enabled {
			return nil
		}
		err := fault.Check(op, name)
		syncFailed = syncFailed || err != nil && (op == vfstest.OpSync || op == vfstest.OpSyncDir)
		return err
	}), fileMemDir, opts, fileNoKeptLock)
	must.Do(t, err)
	for _, e := range fileMapEntries(fileStart) {
		must.Do(t, f.Append(t.Context(), e))
	}
	if synced {
		must.Do(t, f.Sync(t.Context()))
	}
	enabled = true
	err = step.do(t.Context(), f)
	enabled = false
	failf := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("call %d fails with %v: the operation returned the error %v\n%s", fault.Call, fault.Err, err, fmt.Sprintf(format, args...))
	}
	hit := fault.Hit()
	syncErr := f.Sync(t.Context())
	if syncErr == nil && syncFailed {
		failf("Sync returned nil, although an earlier sync had failed")
	}
	if syncErr != nil && !errors.Is(syncErr, partd.ErrNeedsReopen) {
		failf("Sync: error %v, want nil or ErrNeedsReopen", syncErr)
	}
	want := []map[string]string{fileStart, fileContentAfter(step.want)}
	switch {
	case err == nil:
		want = want[1:]
	case !errors.Is(err, partd.ErrUnknownOutcome):
		want = want[:1]
	}
	got, readErr := fileContent(f)
	if readErr != nil || !slices.ContainsFunc(want, func(m map[string]string) bool { return maps.Equal(m, got) }) {
		failf("wrong content (error %v): %s", readErr, fileDiff(got, want[0]))
	}
	if err := f.Close(); err != nil {
		failf("Close: %v", err)
	}
	if syncErr != nil {
		return hit
	}
	rnd, seen := rand.New(rand.NewPCG(uint64(fault.Call), 1)), fileSeen{}
	for i := range 6 {
		if i == 0 {
			mem.ZeroLostPages = fault.Call%2 == 0
		}
		crashed := mem.Crash(rnd)
		if i == 5 {
			crashed = mem.Crash(nil)
		}
		if !seen.isNew(crashed) {
			continue
		}
		g, openErr := storetest.OpenDir(crashed, fileMemDir, opts, filedir.Hooks{KeepLock: -1, Boot: 99})
		if openErr != nil {
			failf("opening the store after a power failure: %v", openErr)
		}
		after, readErr := fileContent(g)
		if readErr != nil || !maps.Equal(after, got) {
			failf("wrong content after a power failure (error %v):\n%s", readErr, fileDiff(after, got))
		}
		g.Close()
	}
	return hit
}
