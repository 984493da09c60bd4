package filedir_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestFileEveryPowerLoss simulates a power failure before each file system call of each operation,
// in a store with Sync. Completed operations must survive; the interrupted one may.
func TestFileEveryPowerLoss(t *testing.T) {
	rounds := 40
	if testing.Short() || procs.RaceEnabled {
		rounds = 5
	}
	opts := &partd.FileOptions{Sync: true}
	for _, zeros := range []bool{false, true} {
		for _, step := range fileSteps {
			t.Run(fmt.Sprintf("%s/zeros=%v", step.name, zeros), func(t *testing.T) {
				rnd, seen := rand.New(rand.NewPCG(1, 2)), fileSeen{}
				fileCutAt(t, fileFilledMem(t, opts, zeros), opts, step.do, func(mem *vfstest.Mem, n int) {
					for range rounds {
						if crashed := mem.Crash(rnd); seen.isNew(crashed) {
							fileCheckCrash(t, crashed, opts, n, fileStart, fileContentAfter(step.want))
						}
					}
				})
			})
		}
	}
}

func fileFilledMem(t *testing.T, opts *partd.FileOptions, zeros bool) *vfstest.Mem {
	t.Helper()
	mem := fileFilled(t, opts)
	mem.ZeroLostPages = zeros
	return mem
}

func fileCheckCrash(t *testing.T, mem *vfstest.Mem, opts *partd.FileOptions, n int, allowed ...map[string]string) {
	t.Helper()
	f, err := storetest.OpenDir(mem, fileMemDir, opts, filedir.Hooks{KeepLock: -1, Boot: 99})
	if err != nil {
		t.Fatalf("opening the store after a power failure before call %d: %v", n, err)
	}
	fileWantEither(t, f, fmt.Sprintf("after a power failure before call %d", n), allowed...)
	f.Close()
}

// TestFileSyncSurvivesPowerLoss checks that a power failure neither loses nor tears a synced operation.
func TestFileSyncSurvivesPowerLoss(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, opts := range []*partd.FileOptions{{Sync: true}, {}} {
		for _, step := range fileSteps {
			t.Run(fmt.Sprintf("%s/sync=%v", step.name, opts.Sync), func(t *testing.T) {
				mem := fileFilled(t, opts)
				f := fileOpen(t, mem, fileMemDir, opts, fileNoKeptLock)
				must.Do(t, step.do(t.Context(), f))
				if !opts.Sync {
					// The method Sync covers only writes since this store was opened, so rewrite everything.
					must.Do(t, f.Drop(t.Context()))
					for _, e := range fileMapEntries(fileContentAfter(step.want)) {
						must.Do(t, f.SetOnce(t.Context(), e.Key, nil))
						must.Do(t, f.Append(t.Context(), e))
					}
					must.Do(t, f.Sync(t.Context()))
				}
				for range 20 {
					fileCheckCrash(t, mem.Crash(rnd), opts, -1, fileContentAfter(step.want))
				}
				fileCheckCrash(t, mem.Crash(nil), opts, -1, fileContentAfter(step.want))
			})
		}
	}
}

// TestFileFirstAppendPowerLoss simulates a power failure during the first append to a store, which creates the undo
// file.
func TestFileFirstAppendPowerLoss(t *testing.T) {
	opts := &partd.FileOptions{Sync: true}
	rnd := rand.New(rand.NewPCG(7, 8))
	fileCutAt(t, vfstest.NewMem(), opts, func(ctx context.Context, f *storetest.Dir) error {
		return f.Append(ctx, fileEntries("a", "1", "b", "2")...)
	}, func(mem *vfstest.Mem, n int) {
		for range 40 {
			fileCheckCrash(t, mem.Crash(rnd), opts, n, map[string]string{}, map[string]string{"a": "1", "b": "2"})
		}
	})
}

// TestFileReplaySurvivesPowerLoss kills a process with Sync during each operation. Another process, with or without
// Sync, completes or undoes the operation. The result must survive a power failure.
func TestFileReplaySurvivesPowerLoss(t *testing.T) {
	synced := &partd.FileOptions{Sync: true}
	for _, opts := range []*partd.FileOptions{synced, {}} {
		for _, step := range fileTaggedOps {
			after := fileContentAfter(step.want)
			t.Run(fmt.Sprintf("%s/sync=%v", step.name, opts.Sync), func(t *testing.T) {
				rnd, seen := rand.New(rand.NewPCG(9, 10)), fileSeen{}
				start, tag := fileFilledTagged(t, synced)
				fileCutAt(t, start, synced, func(ctx context.Context, f *storetest.Dir) error {
					_, err := f.Apply(ctx, tag, step.op)
					return err
				}, func(cut *vfstest.Mem, n int) {
					fileOpen(t, cut, fileMemDir, opts, fileNoKeptLock).Close()
					for range 10 {
						crashed := cut.Crash(rnd)
						if !seen.isNew(crashed) {
							continue
						}
						g, err := storetest.OpenDir(crashed, fileMemDir, synced, filedir.Hooks{KeepLock: -1, Boot: 99})
						if err == nil {
							err = fileRetryApply(g, tag, step.op, fileStart, after, -1)
							g.Close()
						}
						if err != nil {
							t.Fatalf("after a kill before call %d, recovery, and a power failure: %v", n, err)
						}
					}
				})
			})
		}
	}
}

// TestFileSyncNewKeyFirst checks that an append with Sync also makes a new key durable if the append's
// last key is not new.
func TestFileSyncNewKeyFirst(t *testing.T) {
	opts := &partd.FileOptions{Sync: true}
	mem := vfstest.NewMem()
	f := fileOpen(t, mem, fileMemDir, opts, fileNoKeptLock)
	fileAppend(t, f, "old", "1")
	fileAppend(t, f, "new", "x", "old", "2")
	fileCheckCrash(t, mem.Crash(nil), opts, -1, map[string]string{"old": "12", "new": "x"})
}
