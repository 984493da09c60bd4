package filedir_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// fileCut is a way to end a process that has a store open.
type fileCut struct {
	name string
	opts *partd.FileOptions
	cut  func(mem *vfstest.Mem, rnd *rand.Rand) *vfstest.Mem
}

var fileCuts = []fileCut{
	{"kill", &partd.FileOptions{}, func(mem *vfstest.Mem, _ *rand.Rand) *vfstest.Mem { return mem.KillClone() }},
	{"kill, max open 2", &partd.FileOptions{MaxOpenFiles: 2}, func(mem *vfstest.Mem, _ *rand.Rand) *vfstest.Mem { return mem.KillClone() }},
	{"power loss", &partd.FileOptions{Sync: true}, func(mem *vfstest.Mem, rnd *rand.Rand) *vfstest.Mem { return mem.Crash(rnd) }},
	{"power loss, max open 2", &partd.FileOptions{Sync: true, MaxOpenFiles: 2}, func(mem *vfstest.Mem, rnd *rand.Rand) *vfstest.Mem { return mem.Crash(rnd) }},
}

// TestFileManyProcesses opens one store in many short-lived simulated processes. Each is killed at a random call to the
// file system, possibly while it opens the store. The content must always be the result of the operations that
// returned, with or without the interrupted operation.
func TestFileManyProcesses(t *testing.T) {
	processes, err := strconv.Atoi(os.Getenv("PARTD_LIVES"))
	if err != nil {
		processes = 250
	}
	for _, c := range fileCuts {
		for _, zeros := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/zeros=%v", c.name, zeros), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(7, 8))
				mem := vfstest.NewMem()
				mem.ZeroLostPages = zeros
				allowed := []map[string]string{{}}
				for process := range processes {
					mem, allowed = fileRunProcess(t, c, mem, rnd, process, allowed)
				}
			})
		}
	}
}

// fileRunProcess opens a store, which must have one of the allowed contents, and changes it until it is interrupted. It
// returns the file system after the interruption, and the contents that are then allowed.
func fileRunProcess(t *testing.T, c fileCut, mem *vfstest.Mem, rnd *rand.Rand, process int, allowed []map[string]string) (*vfstest.Mem, []map[string]string) {
	t.Helper()
	var after *vfstest.Mem
	calls := 0
	lastCall := 1 + rnd.IntN(80)
	fsys := vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
		if op.Changes() && after == nil {
			if calls++; calls == lastCall {
				after = c.cut(mem, rnd)
			}
		}
		return nil
	})
	// Without a power failure, the boot ID stays the same.
	hooks := filedir.Hooks{KeepLock: -1, Boot: 1}
	if c.opts.Sync {
		hooks.Boot = uint64(process + 1)
	}
	f, err := storetest.OpenDir(fsys, fileMemDir, c.opts, hooks)
	if err != nil {
		t.Fatalf("process %d: opening the store: %v", process, err)
	}
	defer f.Close()
	if after != nil {
		return after, allowed
	}
	content, err := fileContent(f)
	if err != nil {
		t.Fatalf("process %d: reading the store: %v", process, err)
	}
	if !slices.ContainsFunc(allowed, func(m map[string]string) bool { return maps.Equal(m, content) }) {
		t.Fatalf("process %d: the content is neither the old nor the new one:\n%s\n%s", process, fileDiff(content, allowed[0]), fileDiff(content, allowed[len(allowed)-1]))
	}
	for {
		before := maps.Clone(content)
		op := fileRandomOp(rnd, content)
		if err := op(t.Context(), f); err != nil {
			t.Fatalf("process %d: an operation failed: %v", process, err)
		}
		if after != nil {
			return after, []map[string]string{before, content}
		}
	}
}

func fileRandomOp(rnd *rand.Rand, model map[string]string) func(ctx context.Context, f *storetest.Dir) error {
	keys := []string{"a", "b", "c!", "", fileLong, fileLong + "2", "t-|-u", "f"}
	key := keys[rnd.IntN(len(keys))]
	value := strings.Repeat(fmt.Sprint(rnd.IntN(1000), ","), rnd.IntN(4)*rnd.IntN(500)+1)
	switch rnd.IntN(12) {
	case 0:
		model[key] = value
		return func(ctx context.Context, f *storetest.Dir) error { return f.Set(ctx, key, []byte(value)) }
	case 1:
		if _, ok := model[key]; !ok {
			model[key] = value
		}
		return func(ctx context.Context, f *storetest.Dir) error { return f.SetOnce(ctx, key, []byte(value)) }
	case 2, 3:
		deleted := keys[:1+rnd.IntN(len(keys))]
		for _, k := range deleted {
			delete(model, k)
		}
		return func(ctx context.Context, f *storetest.Dir) error { return f.Delete(ctx, deleted...) }
	case 4:
		if rnd.IntN(3) == 0 {
			clear(model)
			return func(ctx context.Context, f *storetest.Dir) error { return f.Drop(ctx) }
		}
		delete(model, key)
		return func(ctx context.Context, f *storetest.Dir) error {
			_, err := f.Pop(ctx, key)
			return err
		}
	}
	var entries []partd.Entry
	for range 1 + rnd.IntN(10) {
		k := keys[rnd.IntN(len(keys))]
		piece := value[:1+rnd.IntN(len(value))]
		entries = append(entries, partd.Entry{Key: k, Value: []byte(piece)})
		model[k] += piece
	}
	return func(ctx context.Context, f *storetest.Dir) error { return f.Append(ctx, entries...) }
}
