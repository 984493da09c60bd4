package filedir_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestFileCreatesDirectories checks that OpenFile creates missing directories, and that a later change of the working
// directory does not affect the store.
func TestFileCreatesDirectories(t *testing.T) {
	t.Chdir(t.TempDir())
	f := fileOpen(t, fileOS, "a/b/c", nil, filedir.Hooks{})
	fileAppend(t, f, "k", "1")
	t.Chdir(t.TempDir())
	fileAppend(t, f, "k", "2", "other", "3")
	fileWantContent(t, f, map[string]string{"k": "12", "other": "3"})
	if entries, _ := os.ReadDir("."); len(entries) != 0 {
		t.Fatalf("the store wrote to the new working directory: %v", entries)
	}
}

// TestFileLeavesForeignFilesAlone checks that if a foreign file exists, listings fail with an error that names
// it. It must not affect other keys, and must survive Drop.
func TestFileLeavesForeignFilesAlone(t *testing.T) {
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	fileAppend(t, f, "mine", "1", strings.Repeat("long", 100), "2")
	foreign := []string{"%41", "note~", "é", "%h12", "%zz", "%undo2"}
	for _, name := range foreign {
		fileWrite(t, filepath.Join(dir, name), []byte("foreign"))
	}
	for _, name := range []string{"sub", "sub2!"} {
		must.Do(t, os.Mkdir(filepath.Join(dir, name), 0o777))
		fileWrite(t, filepath.Join(dir, name, "mine"), []byte("foreign"))
	}
	outside := filepath.Join(t.TempDir(), "outside")
	fileWrite(t, outside, []byte("outside"))
	must.Do(t, os.Symlink(outside, filepath.Join(dir, "link")))
	wantNamed := func(name string) {
		t.Helper()
		_, scan := fileContent(f)
		_, _, _, stat := f.Stat(t.Context())
		keys := f.Keys(t.Context(), func(string, int64) bool { return true })
		for _, err := range []error{scan, stat, keys} {
			must.Fail(t, err, filepath.Join(dir, name)+" was not written by partd", "foreign file %s", name)
		}
	}
	wantValues := func(want map[string]string) { // checks only the given keys
		t.Helper()
		for key, value := range want {
			if v, err := f.Get(t.Context(), key); err != nil || string(v[0]) != value {
				t.Errorf("Get(%q) = %q, %v, want %q", key, v, err, value)
			}
		}
	}
	wantValues(map[string]string{"mine": "1", strings.Repeat("long", 100): "2", "sub-|-mine": "foreign"})
	asideDir := t.TempDir()
	foreign = append(foreign, "sub2!/mine", "link")
	for _, name := range foreign { // move all foreign files away except this one
		for _, other := range foreign {
			if other != name {
				must.Do(t, os.Rename(filepath.Join(dir, other), filepath.Join(asideDir, filepath.Base(other)+filepath.Dir(other))))
			}
		}
		wantNamed(name)
		for _, other := range foreign {
			if other != name {
				must.Do(t, os.Rename(filepath.Join(asideDir, filepath.Base(other)+filepath.Dir(other)), filepath.Join(dir, other)))
			}
		}
	}

	// Keys with these names are rejected, and links are not followed.
	for _, key := range []string{"sub", "link"} {
		if err := f.Append(t.Context(), fileEntries("mine", "x", key, "x")...); err == nil {
			t.Errorf("Append to key %q, a directory or link, succeeded", key)
		}
		if err := f.Set(t.Context(), "sub", nil); err == nil {
			t.Error("Set of key \"sub\", a directory, succeeded")
		}
		if v, err := f.Get(t.Context(), key); err == nil {
			t.Errorf("Get(%q) = %q, want an error, because the key is a directory or link", key, v)
		}
	}
	wantValues(map[string]string{"mine": "1", strings.Repeat("long", 100): "2"})

	must.Do(t, f.Drop(t.Context()))
	wantValues(map[string]string{"mine": "", strings.Repeat("long", 100): "", "sub-|-mine": ""})
	leftovers := must.Get(os.ReadDir(dir))(t)
	var own []string
	for _, e := range leftovers {
		if strings.HasPrefix(e.Name(), "%k") || strings.HasPrefix(e.Name(), "%tmp") || e.Name() == "mine" {
			own = append(own, e.Name())
		}
	}
	if len(leftovers) != len(foreign)+2 || own != nil {
		t.Fatalf("after Drop, the directory contains %v, want only the foreign files, .lock and %%undo, not %v", leftovers, own)
	}
	if string(fileRead(t, outside)) != "outside" {
		t.Fatal("Drop changed the target of a symbolic link")
	}
}

// TestFileContextEndsAppend checks that a large append is undone if its context ends midway.
func TestFileContextEndsAppend(t *testing.T) {
	f := fileOpen(t, fileOS, t.TempDir(), nil, filedir.Hooks{})
	fileAppend(t, f, "k100", "1")
	var entries []partd.Entry
	for i := range 1000 {
		entries = append(entries, partd.Entry{Key: fmt.Sprint("k", i), Value: []byte("x")})
	}
	ctx, cancel := context.WithCancel(t.Context())
	writes := 0
	f.Hooks.AfterWrite = func() {
		if writes++; writes == 500 {
			cancel()
		}
	}
	err := f.Append(ctx, entries...)
	if !errors.Is(err, context.Canceled) || errors.Is(err, partd.ErrUnknownOutcome) || writes == 1000 {
		t.Fatalf("Append returned the error %v after %d writes, want Canceled before 1000 writes", err, writes)
	}
	fileWantContent(t, f, map[string]string{"k100": "1"})
}

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
