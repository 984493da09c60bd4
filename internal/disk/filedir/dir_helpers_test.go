package filedir_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// fileNoKeptLock makes a store release its lock after each operation, so that file system calls are reproducible.
var fileNoKeptLock = filedir.Hooks{KeepLock: -1}

func fileOpen(t testing.TB, fsys vfs.FS, dir string, opts *partd.FileOptions, hooks filedir.Hooks) *storetest.Dir {
	t.Helper()
	f := must.Get(storetest.OpenDir(fsys, dir, opts, hooks))(t)
	t.Cleanup(func() { f.Close() })
	return f
}

func fileAppend(t testing.TB, f *storetest.Dir, keyValue ...string) {
	t.Helper()
	must.Do(t, f.Append(t.Context(), fileEntries(keyValue...)...))
}

func fileEntries(keyValue ...string) []partd.Entry {
	var entries []partd.Entry
	for i := 0; i < len(keyValue); i += 2 {
		entries = append(entries, partd.Entry{Key: keyValue[i], Value: []byte(keyValue[i+1])})
	}
	return entries
}

// fileContent reads a store with Scan, and checks that Keys, Stat and Get agree.
func fileContent(f *storetest.Dir) (map[string]string, error) {
	ctx := context.Background()
	content := map[string]string{}
	var keys []string
	var total int64
	for c, err := range f.Scan(ctx) {
		if err != nil {
			return nil, err
		}
		if c.Offset == 0 {
			keys = append(keys, c.Key)
		}
		content[c.Key] += string(c.Data)
		total += int64(len(c.Data))
	}
	values, err := f.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if string(values[i]) != content[key] {
			return nil, fmt.Errorf("key %q: Get returns %.40q, but Scan yields %.40q", key, values[i], content[key])
		}
	}
	listed := 0
	var wrong error
	err = f.Keys(ctx, func(key string, size int64) bool {
		if value, ok := content[key]; !ok || int64(len(value)) != size {
			wrong = fmt.Errorf("Keys lists %q with %d bytes, but Scan yields %d bytes", key, size, len(value))
		}
		listed++
		return wrong == nil
	})
	if err := errors.Join(err, wrong); err != nil {
		return nil, err
	}
	if listed != len(content) {
		return nil, fmt.Errorf("Keys lists %d keys, but Scan yields %d", listed, len(content))
	}
	keyCount, byteCount, _, err := f.Stat(ctx)
	if err == nil && (keyCount != int64(len(content)) || byteCount != total) {
		err = fmt.Errorf("Stat returns %d keys with %d bytes, but Scan yields %d keys with %d bytes", keyCount, byteCount, len(content), total)
	}
	return content, err
}

func fileWantContent(t testing.TB, f *storetest.Dir, want map[string]string) {
	t.Helper()
	got := must.Get(fileContent(f))(t)
	if diff := fileDiff(got, want); diff != "" {
		t.Fatal(diff)
	}
}

func fileDiff(got, want map[string]string) string {
	if maps.Equal(got, want) {
		return ""
	}
	var b strings.Builder
	for key := range want {
		if value, ok := got[key]; !ok {
			fmt.Fprintf(&b, "key %.60q of %d bytes is missing\n", key, len(want[key]))
		} else if value != want[key] {
			fmt.Fprintf(&b, "key %.60q has %d bytes %.60q, want %d bytes %.60q\n", key, len(value), value, len(want[key]), want[key])
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			fmt.Fprintf(&b, "key %.60q should not exist\n", key)
		}
	}
	return b.String()
}

func fileWantErr(t testing.TB, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !must.Fail(t, err, w, "the last operation") {
			t.FailNow()
		}
	}
}

func fileWantInErr(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want an error with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Fatalf("error %q, want an error that contains %q", err, w)
		}
	}
}

// fileRequire skips the test unless ok is true, or fails it if PARTD_REQUIRE_ALL is set.
func fileRequire(t testing.TB, ok bool, label string) {
	t.Helper()
	if !ok {
		procs.Skip(t, "this test needs %s", label)
	}
}

// fileWithin calls f in a new goroutine and returns its error. It ends the test if f takes longer than d.
func fileWithin(t testing.TB, d time.Duration, label string, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		t.Fatalf("%s did not return within %v", label, d)
		return nil
	}
}

var fileOS vfs.FS = vfs.OS{}

// Constants of the formats of "%undo" and "%sessions", as in package filedir.
const (
	journalMagic = "partdun1"
	inlineMax    = 4096
	pieceSize    = 512
	minProof     = 16 // number of bytes that identify a torn piece as part of the append
	slotLen      = 64
)

func fileRead(t testing.TB, path string) []byte {
	t.Helper()
	return must.Get(os.ReadFile(path))(t)
}

func fileWrite(t testing.TB, path string, p []byte) {
	t.Helper()
	must.Do(t, os.WriteFile(path, p, 0o666))
}

type fileStep struct {
	name string
	do   func(ctx context.Context, f *storetest.Dir) error
	want func(m map[string]string)
}

var fileSteps = []fileStep{
	{"append", func(ctx context.Context, f *storetest.Dir) error {
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
	{"append to one key", func(ctx context.Context, f *storetest.Dir) error {
		return f.Append(ctx, fileEntries("a", "x")...)
	}, func(m map[string]string) { m["a"] += "x" }},
	{"set", func(ctx context.Context, f *storetest.Dir) error { return f.Set(ctx, "a", []byte("set")) }, func(m map[string]string) { m["a"] = "set" }},
	{"set a new long key", func(ctx context.Context, f *storetest.Dir) error { return f.Set(ctx, fileLong+"2", nil) }, func(m map[string]string) { m[fileLong+"2"] = "" }},
	{"set once", func(ctx context.Context, f *storetest.Dir) error { return f.SetOnce(ctx, "new", []byte("set")) }, func(m map[string]string) { m["new"] = "set" }},
	{"delete one", func(ctx context.Context, f *storetest.Dir) error { return f.Delete(ctx, fileLong) }, func(m map[string]string) { delete(m, fileLong) }},
	{"delete", func(ctx context.Context, f *storetest.Dir) error { return f.Delete(ctx, "a", "none", fileLong, "") }, func(m map[string]string) {
		delete(m, "a")
		delete(m, fileLong)
		delete(m, "")
	}},
	{"pop", func(ctx context.Context, f *storetest.Dir) error {
		v, err := f.Pop(ctx, "a", "c")
		if err == nil && (string(v[0]) != "1" || string(v[1]) != fileLarge) {
			return fmt.Errorf("Pop returned %.20q, want the values of a and c", v)
		}
		return err
	}, func(m map[string]string) {
		delete(m, "a")
		delete(m, "c")
	}},
	{"drop", func(ctx context.Context, f *storetest.Dir) error { return f.Drop(ctx) }, func(m map[string]string) { clear(m) }},
	{"sync", func(ctx context.Context, f *storetest.Dir) error { return f.Sync(ctx) }, func(map[string]string) {}},
}

func fileContentAfter(change func(m map[string]string)) map[string]string {
	m := maps.Clone(fileStart)
	change(m)
	return m
}

func fileMapEntries(m map[string]string) []partd.Entry {
	values := map[string][]byte{}
	for k, v := range m {
		values[k] = []byte(v)
	}
	return partd.Entries(values)
}

// fileSeen records the file systems that a test has checked, because many cuts and crashes leave the same files.
type fileSeen map[uint64]bool

// isNew reports whether the files of mem differ from those of earlier calls.
func (s fileSeen) isNew(mem *vfstest.Mem) bool {
	sum := mem.Sum()
	isNew := !s[sum]
	s[sum] = true
	return isNew
}

// fileFilled returns a file system with a closed store whose content is fileStart.
func fileFilled(t *testing.T, opts *partd.FileOptions) *vfstest.Mem {
	t.Helper()
	mem := vfstest.NewMem()
	f := fileOpen(t, mem, fileMemDir, opts, fileNoKeptLock)
	for _, e := range fileMapEntries(fileStart) {
		must.Do(t, f.Append(t.Context(), e))
	}
	must.Do(t, f.Close())
	if n := mem.OpenCount(); n != 0 {
		t.Fatalf("%d files are still open after Close", n)
	}
	return mem
}
