package filedir_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestFileTuples checks that Go reads and writes the tuple keys that Python's File stores as paths.
func TestFileTuples(t *testing.T) {
	fileNeedsPython(t)
	dir := t.TempDir()
	filePythonRun(t, `
p.append({('a', 1): b'one', ('a', 'b', 'c'): b'two', 'x/y': b'three', ('gone', 1): b'', 'k': b'four'})
p.append({('a', 1): b'+', ('del', 'eted'): b'5'})
p.delete([('del', 'eted')])
`, dir)
	for _, sync := range []bool{false, true} {
		f := fileOpen(t, fileOS, dir, &partd.FileOptions{Sync: sync, MaxOpenFiles: 2}, filedir.Hooks{})
		want := map[string]string{"a-|-1": "one+", "a-|-b-|-c": "two", "x-|-y": "three", "gone-|-1": "", "k": "four"}
		fileWantContent(t, f, want)
		keyCount, byteCount, _, err := f.Stat(t.Context())
		if err != nil || keyCount != 5 || byteCount != 16 {
			t.Errorf("Stat returns %d keys and %d bytes, error %v, want 5 and 16", keyCount, byteCount, err)
		}
		fileAppend(t, f, "a-|-1", "go", "new-|-tuple-|-2", "new", "a", "", "k-|-1", "beside k")
		must.Do(t, f.Set(t.Context(), "set-|-1", []byte("set")))
		must.Do(t, f.Delete(t.Context(), "x-|-y", "none-|-1"))
		got := filePythonRun(t, `
print(p.get([('a', 1), ('new', 'tuple', 2), ('set', '1'), 'x/y']))
p.append({('a', 1): b'py', ('new', 'tuple', 2): b'py', 'k': b'py'})
p.delete([('set', 1)])
`, dir)
		if got != "[b'one+go', b'new', b'set', b'']\n" {
			t.Errorf("Python printed %s, want the values of the four tuples", got)
		}
		want["a-|-1"], want["new-|-tuple-|-2"], want["k-|-1"], want["k"] = "one+gopy", "newpy", "beside k", "fourpy"
		delete(want, "x-|-y")
		fileWantContent(t, f, want) // k is a file, so a tuple that begins with k is not stored as a path
		if err := f.Append(t.Context(), fileEntries("k", "x", "a", "y")...); err == nil || !strings.Contains(err.Error(), "directory") {
			t.Errorf("Append to a key that is also a directory of tuples: error %v, want an error about the directory", err)
		}
		if v, err := f.Pop(t.Context(), "a-|-b-|-c", "k-|-1"); err != nil || string(v[0])+string(v[1]) != "twobeside k" {
			t.Errorf("Pop = %q, %v, want \"two\" and \"beside k\"", v, err)
		}
		if sync {
			break
		}
		must.Do(t, f.Drop(t.Context()))
		if leftovers, err := os.ReadDir(dir); err != nil || len(leftovers) != 2 { // want .lock and %undo
			t.Errorf("after Drop, the directory contains %v (error %v), want only .lock and %%undo", leftovers, err)
		}
		must.Do(t, f.Close())
		filePythonRun(t, `
p.append({('a', 1): b'one+', ('a', 'b', 'c'): b'two', 'x/y': b'three', ('gone', 1): b'', 'k': b'four'})
`, dir)
	}
}

// TestFileTuplesInFlatFiles checks that tuples in flat files stay there, that two files of
// one key cause an error that names both, and that links are not followed.
func TestFileTuplesInFlatFiles(t *testing.T) {
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{KeepLock: -1}) // keeps no lock, because this test changes the directory like another program
	fileWrite(t, filepath.Join(dir, "a-%7C-b"), []byte("earlier"))
	fileAppend(t, f, "a-|-b", "+")
	fileWantContent(t, f, map[string]string{"a-|-b": "earlier+"})
	must.Do(t, os.Mkdir(filepath.Join(dir, "a"), 0o777))
	fileWantContent(t, f, map[string]string{"a-|-b": "earlier+"})
	fileWrite(t, filepath.Join(dir, "a", "b"), []byte("Python's"))
	_, getErr := f.Get(t.Context(), "a-|-b")
	_, scanErr := fileContent(f)
	for _, err := range []error{getErr, scanErr, f.Append(t.Context(), fileEntries("x", "1", "a-|-b", "2")...), f.Set(t.Context(), "a-|-b", nil), f.Delete(t.Context(), "a-|-b")} {
		if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "a-%7C-b")) || !strings.Contains(err.Error(), filepath.Join(dir, "a/b")) {
			t.Errorf("operation on a key with two files: error %v, want an error that names both files", err)
		}
	}
	if v, err := f.Get(t.Context(), "x"); err != nil || len(v[0]) != 0 {
		t.Errorf("after a failed batch, Get(x) = %q, %v, want an empty value", v, err)
	}
	outside := t.TempDir()
	must.Do(t, errors.Join(os.Remove(filepath.Join(dir, "a", "b")), os.Symlink(outside, filepath.Join(dir, "link"))))
	fileAppend(t, f, "link-|-b", "1", "..-|-b", "2", ".lock-|-b", "3", "-|-b", "4", "/-|-etc", "5")
	if leftovers, err := os.ReadDir(outside); err != nil || len(leftovers) != 0 {
		t.Errorf("the target of a link contains %v (error %v), want no files", leftovers, err)
	}
	if v, err := f.Get(t.Context(), "link-|-b", "..-|-b", ".lock-|-b", "-|-b", "/-|-etc"); err != nil || fmt.Sprintf("%s", v) != "[1 2 3 4 5]" {
		t.Errorf("Get of tuples with unusual names = %s, %v, want [1 2 3 4 5]", v, err)
	}
}

// TestFileKeyIsTupleDirectory checks that writes to a key that is also a directory of tuples fail until the tuples are
// deleted.
func TestFileKeyIsTupleDirectory(t *testing.T) {
	for name, write := range map[string]func(f *storetest.Dir) error{
		"append": func(f *storetest.Dir) error { return f.Append(t.Context(), fileEntries("a", "own")...) },
		"set":    func(f *storetest.Dir) error { return f.Set(t.Context(), "a", []byte("own")) },
		"set once": func(f *storetest.Dir) error {
			return f.SetOnce(t.Context(), "a", []byte("own"))
		},
	} {
		dir := t.TempDir()
		f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
		fileAppend(t, f, "a-|-b-|-c", "1", "a-|-d", "2", "other", "3")
		must.Fail(t, write(f), "directory", "%s to a key that is also a directory", name)
		if err := f.Delete(t.Context(), "a-|-d", "a-|-b-|-c"); err != nil {
			t.Errorf("%s: Delete of the tuples: %v", name, err)
		}
		if v, err := f.Pop(t.Context(), "a", "other"); err != nil || fmt.Sprintf("%s", v) != "[ 3]" {
			t.Errorf("%s: Pop(a, other) = %q, %v, want an empty value and 3", name, v, err)
		}
		if err := write(f); err != nil {
			t.Errorf("%s after the tuples were deleted: %v", name, err)
		}
		fileAppend(t, f, "a-|-d", "beside")
		fileWantContent(t, f, map[string]string{"a": "own", "a-|-d": "beside"})
	}
}

// TestFileTuplesKilled simulates a process that is killed in an append with two conflicting keys:
// one key needs a directory with the name of the other key's file. The next process must undo the
// append.
func TestFileTuplesKilled(t *testing.T) {
	dir, killed := t.TempDir(), t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	fileAppend(t, f, "b", "1")
	f.Hooks.AfterWrite = sync.OnceFunc(func() {
		must.Check(t, os.CopyFS(killed, os.DirFS(dir)))
	})
	if err := f.Append(t.Context(), fileEntries("a-|-1", "x", "a", "y")...); err == nil {
		t.Error("Append of conflicting keys succeeded, want an error")
	}
	for _, d := range []string{dir, killed} {
		if d == killed {
			f = fileOpen(t, fileOS, killed, nil, filedir.Hooks{})
		}
		fileWantContent(t, f, map[string]string{"b": "1"})
		fileAppend(t, f, "a", "2")
		fileWantContent(t, f, map[string]string{"b": "1", "a": "2"})
	}
}

// TestFileTuplesDropped checks that a listing skips a directory of tuples that Python's drop removes meanwhile.
func TestFileTuplesDropped(t *testing.T) {
	f := fileOpen(t, vfstest.Inject(vfstest.NewMem(), func(op vfstest.Op, name string) error {
		if op == vfstest.OpReadDir && filepath.Base(name) == "a" {
			return fs.ErrNotExist
		}
		return nil
	}), fileMemDir, nil, fileNoKeptLock)
	fileAppend(t, f, "a-|-1", "x", "b", "y")
	var keys []string
	must.Do(t, f.Keys(t.Context(), func(key string, _ int64) bool {
		keys = append(keys, key)
		return true
	}))
	if len(keys) != 1 || keys[0] != "b" {
		t.Errorf("Keys lists %q, want only b", keys)
	}
}
