package filedir_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// fileTaggedOps lists operations on a store with content fileStart, each with its effect on the content.
var fileTaggedOps = []struct {
	name string
	op   partd.Operation
	want func(m map[string]string)
}{
	{"append", partd.Operation{Change: partd.ChangeAppend, Entries: fileEntries("a", "x", "c", fileLarge, "new", "n", fileLong, "l", fileLong+"2", "m")}, func(m map[string]string) {
		m["a"] += "x"
		m["c"] += fileLarge
		m["new"] = "n"
		m[fileLong] += "l"
		m[fileLong+"2"] = "m"
	}},
	{"append nothing", partd.Operation{Change: partd.ChangeAppend, Entries: fileEntries("a", "")}, func(map[string]string) {}},
	{"set", partd.Operation{Change: partd.ChangeSet, Entries: fileEntries("a", "set")}, func(m map[string]string) { m["a"] = "set" }},
	{"set a new long key", partd.Operation{Change: partd.ChangeSet, Entries: fileEntries(fileLong+"2", "")}, func(m map[string]string) { m[fileLong+"2"] = "" }},
	{"set once", partd.Operation{Change: partd.ChangeSetOnce, Entries: fileEntries("new", "set")}, func(m map[string]string) { m["new"] = "set" }},
	{"set once of an existing key", partd.Operation{Change: partd.ChangeSetOnce, Entries: fileEntries("a", "set")}, func(map[string]string) {}},
	{"delete one", partd.Operation{Change: partd.ChangeDelete, Keys: []string{"a"}}, func(m map[string]string) { delete(m, "a") }},
	{"delete", partd.Operation{Change: partd.ChangeDelete, Keys: []string{"a", "none", fileLong, ""}}, func(m map[string]string) {
		delete(m, "a")
		delete(m, fileLong)
		delete(m, "")
	}},
	{"drop", partd.Operation{Change: partd.ChangeDrop}, func(m map[string]string) { clear(m) }},
}

// fileFilledTagged is like fileFilled, but with a session that has applied one operation. next is the tag of the
// second.
func fileFilledTagged(t *testing.T, opts *partd.FileOptions) (mem *vfstest.Mem, next partd.Tag) {
	t.Helper()
	mem = fileFilled(t, opts)
	f := fileOpen(t, mem, fileMemDir, opts, fileNoKeptLock)
	session := must.Get(f.NewSession(t.Context()))(t)
	if applied, err := f.Apply(t.Context(), partd.Tag{Session: session, Number: 1, CRC: 11}, partd.Operation{}); err != nil || !applied {
		t.Fatalf("Apply of operation 1 = %v, %v, want true", applied, err)
	}
	must.Do(t, f.Close())
	return mem, partd.Tag{Session: session, Number: 2, CRC: 22}
}

// fileRetryApply retries an operation on a store that may have applied it before, and returns an error unless
// it is applied exactly once. appliedBefore is 1 if the operation must have been applied before, 0 if it must not have
// been, and -1 if either is allowed.
func fileRetryApply(f *storetest.Dir, tag partd.Tag, op partd.Operation, before, after map[string]string, appliedBefore int) error {
	ctx := context.Background()
	content, err := fileContent(f)
	if err != nil {
		return err
	}
	switch {
	case appliedBefore == 1 && !maps.Equal(content, after):
		return fmt.Errorf("the operation was acknowledged, but the content is not the new one: %s", fileDiff(content, after))
	case appliedBefore == 0 && !maps.Equal(content, before):
		return fmt.Errorf("the operation was rejected, but the content is not the old one: %s", fileDiff(content, before))
	case !maps.Equal(content, before) && !maps.Equal(content, after):
		return fmt.Errorf("the content is neither the old nor the new one: %s", fileDiff(content, before))
	}
	applied, err := f.Apply(ctx, tag, op)
	if err != nil {
		return fmt.Errorf("retrying the operation: %w", err)
	}
	if !maps.Equal(before, after) && applied == maps.Equal(content, after) {
		return fmt.Errorf("the retry returned applied=%v, but the content shows that it was applied before: %v", applied, applied)
	}
	if content, err = fileContent(f); err != nil {
		return err
	}
	if diff := fileDiff(content, after); diff != "" {
		return fmt.Errorf("after the retry: %s", diff)
	}
	if applied, err := f.Apply(ctx, tag, op); err != nil || applied {
		return fmt.Errorf("the second retry returned applied=%v, want false; error %w", applied, err)
	}
	if applied, err := f.Apply(ctx, partd.Tag{Session: tag.Session, Number: tag.Number + 1, CRC: 33}, partd.Operation{}); err != nil || !applied {
		return fmt.Errorf("the next operation returned applied=%v, want true; error %w", applied, err)
	}
	return nil
}

// TestFileApplyEveryCut interrupts an operation that has a tag (a session and a number), by kill -9 or a power
// failure, before every file system call. After a retry, it must have been applied exactly once.
func TestFileApplyEveryCut(t *testing.T) {
	for optName, opts := range fileFaultOpts {
		for _, step := range fileTaggedOps {
			after := fileContentAfter(step.want)
			t.Run(optName+"/"+step.name, func(t *testing.T) {
				start, tag := fileFilledTagged(t, opts)
				rnd := rand.New(rand.NewPCG(7, 8))
				cut := func(check func(mem *vfstest.Mem, n int)) {
					fileCutAt(t, start, opts, func(ctx context.Context, f *storetest.Dir) error {
						applied, err := f.Apply(ctx, tag, step.op)
						if err == nil && !applied {
							err = errors.New("Apply returned false on the first attempt, want true")
						}
						return err
					}, check)
				}
				last := 0
				cut(func(_ *vfstest.Mem, n int) { last = n })
				if last < 2 {
					t.Fatalf("only %d calls were tried, want at least 2", last)
				}
				try := func(mem *vfstest.Mem, boot uint64, n int, event string) {
					t.Helper()
					appliedBefore := -1
					if n == last {
						appliedBefore = 1
					}
					f, err := storetest.OpenDir(mem, fileMemDir, opts, filedir.Hooks{KeepLock: -1, Boot: boot})
					if err == nil {
						err = fileRetryApply(f, tag, step.op, fileStart, after, appliedBefore)
						f.Close()
					}
					if err != nil {
						t.Fatalf("after %s before call %d: %v", event, n, err)
					}
				}
				cut(func(mem *vfstest.Mem, n int) {
					try(mem.KillClone(), 0, n, "kill -9")
					for range 5 {
						if opts.Sync {
							try(mem.Crash(rnd), 99, n, "a power failure")
						}
					}
				})
			})
		}
	}
}

// TestFileApplyEveryCutWhileReplaying interrupts an operation, and then also the process that opens the store and
// completes or undoes the operation.
func TestFileApplyEveryCutWhileReplaying(t *testing.T) {
	for _, step := range fileTaggedOps {
		t.Run(step.name, func(t *testing.T) {
			start, tag := fileFilledTagged(t, nil)
			after := fileContentAfter(step.want)
			fileCutAt(t, start, nil, func(ctx context.Context, f *storetest.Dir) error {
				_, err := f.Apply(ctx, tag, step.op)
				return err
			}, func(cut *vfstest.Mem, n int) {
				enabled := false
				f := must.Get(storetest.OpenDir(vfstest.Inject(cut, func(op vfstest.Op, _ string) error {
					if !op.Changes() || enabled {
						return nil
					}
					reopened, err := storetest.OpenDir(cut.KillClone(), fileMemDir, nil, fileNoKeptLock)
					if err == nil {
						err = fileRetryApply(reopened, tag, step.op, fileStart, after, -1)
						reopened.Close()
					}
					if err != nil {
						t.Fatalf("after a kill before call %d, and another during recovery: %v", n, err)
					}
					return nil
				}), fileMemDir, nil, fileNoKeptLock))(t)
				enabled = true
				f.Close()
			})
		})
	}
}

// TestFileApplyEveryFault makes each file system call fail in turn, either only that call or all later calls too.
func TestFileApplyEveryFault(t *testing.T) {
	for optName, opts := range fileFaultOpts {
		for _, step := range fileTaggedOps {
			for _, persists := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/persists=%v", optName, step.name, persists), func(t *testing.T) {
					start, tag := fileFilledTagged(t, opts)
					for n := int64(1); ; n += faultStep {
						fault := &vfstest.Fault{Call: n, Err: syscall.EIO, Persists: persists, ShortWrite: true}
						if !fileApplyWithFault(t, start.KillClone(), opts, fault, tag, step.op, fileContentAfter(step.want)) {
							if n < 3 {
								t.Fatalf("only %d calls were tried, want at least 3", n)
							}
							return
						}
					}
				})
			}
		}
	}
}

// fileApplyWithFault tries one fault, and reports whether it occurred.
func fileApplyWithFault(t *testing.T, mem *vfstest.Mem, opts *partd.FileOptions, fault *vfstest.Fault, tag partd.Tag, op partd.Operation, after map[string]string) bool {
	t.Helper()
	enabled := false
	f := must.Get(storetest.OpenDir(vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if !enabled {
			return nil
		}
		return fault.Check(op, name)
	}), fileMemDir, opts, fileNoKeptLock))(t)
	enabled = true
	applied, opErr := f.Apply(t.Context(), tag, op)
	hit := fault.Hit()
	enabled = false
	appliedBefore := 1
	switch {
	case errors.Is(opErr, partd.ErrUnknownOutcome):
		appliedBefore = -1
	case opErr != nil:
		appliedBefore = 0
	case !applied:
		t.Fatalf("fault in call %d: Apply returned false on the first attempt, want true", fault.Call)
	}
	if opErr != nil && !hit {
		t.Fatalf("Apply failed before the fault in call %d: %v", fault.Call, opErr)
	}
	// Retry in a reopened store, and in the same one unless it refuses writes.
	afterKill, err := storetest.OpenDir(mem.KillClone(), fileMemDir, opts, fileNoKeptLock)
	if err == nil {
		err = fileRetryApply(afterKill, tag, op, fileStart, after, appliedBefore)
		afterKill.Close()
	}
	if err != nil {
		t.Fatalf("fault in call %d: Apply returned the error %v; in a reopened store: %v", fault.Call, opErr, err)
	}
	if err := fileRetryApply(f, tag, op, fileStart, after, appliedBefore); err != nil && !errors.Is(err, partd.ErrNeedsReopen) {
		t.Fatalf("fault in call %d: Apply returned the error %v; in the same store: %v", fault.Call, opErr, err)
	}
	f.Close()
	return hit
}
