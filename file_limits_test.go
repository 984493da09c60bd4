package partd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/filedir"
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

// A full disk: the append that does not fit changes nothing, and once there is
// room, writes go on.
func TestFileDiskFull(t *testing.T) {
	dir := fileTmpfs(t, "1m")
	f := fileOpen(t, fileOS, filepath.Join(dir, "store"), nil, filedir.Hooks{})
	want := map[string]string{}
	piece := strings.Repeat("x", 3000)
	full := false
	for n := 0; n < 1000 && !full; n++ {
		var entries []Entry
		for k := range 20 {
			entries = append(entries, Entry{Key: fmt.Sprint("key", (k+n)%50), Value: fmt.Append(nil, n, piece[:100*k])})
		}
		err := f.Append(t.Context(), entries...)
		if err == nil {
			for _, e := range entries {
				want[e.Key] += string(e.Value)
			}
			continue
		}
		full = true
		fileIs(t, err, syscall.ENOSPC)
		if errors.Is(err, ErrUnknownOutcome) {
			t.Fatal(err)
		}
	}
	if !full {
		t.Fatal("the disk did not get full")
	}
	fileWant(t, f, want)
	// A large value is torn in the middle of its file, one of many in the middle
	// of the batch, a Set in the temporary file.
	large := make([]byte, 2<<20)
	for name, err := range map[string]error{
		"append": f.Append(t.Context(), Entry{Key: "key1", Value: []byte("a")}, Entry{Key: "key2", Value: large}),
		"new":    f.Append(t.Context(), Entry{Key: fileLong, Value: large}),
		"set":    f.Set(t.Context(), "key3", large),
	} {
		if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrUnknownOutcome) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	fileWant(t, f, want)
	fileWant(t, fileOpen(t, fileOS, filepath.Join(dir, "store"), nil, filedir.Hooks{}), want)
	for k := range 25 {
		key := fmt.Sprint("key", k)
		if err := f.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		delete(want, key)
	}
	fileAppend(t, f, "key1", piece, "key40", piece)
	want["key1"] = piece
	want["key40"] += piece
	fileWant(t, f, want)
}

func TestFileReadOnly(t *testing.T) {
	dir := fileTmpfs(t, "1m")
	store := filepath.Join(dir, "store")
	f := fileOpen(t, fileOS, store, nil, fileAtOnce)
	fileAppend(t, f, "a", "1")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := fileRemountReadOnly(dir); err != nil {
		t.Fatal(err)
	}
	g := fileOpen(t, fileOS, store, nil, fileAtOnce)
	fileWant(t, g, map[string]string{"a": "1"})
	for range 2 {
		err := g.Append(t.Context(), fileEntries("a", "2")...)
		if !errors.Is(err, syscall.EROFS) || errors.Is(err, ErrUnknownOutcome) {
			t.Fatal(err)
		}
		fileWant(t, g, map[string]string{"a": "1"})
	}
	if _, err := OpenFile(filepath.Join(dir, "new"), nil); !errors.Is(err, syscall.EROFS) {
		t.Fatal(err)
	}
}

func TestFileNoPermission(t *testing.T) {
	if os.Getuid() == 0 {
		// The same errors, made by the file system of the tests.
		start := fileFilled(t, nil)
		fault := &vfstest.Fault{At: 1, Err: syscall.EACCES, Stays: true}
		_, err := openFile(vfstest.Inject(start, fault.Check), fileMemDir, nil, fileAtOnce)
		fileIs(t, err, os.ErrPermission)
		fileSays(t, err, fileMemDir)
		return
	}
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, fileAtOnce)
	fileAppend(t, f, "a", "1", "b", "1")
	if err := os.Chmod(filepath.Join(dir, "b"), 0o444); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = fileOpen(t, fileOS, dir, nil, fileAtOnce)
	err := f.Append(t.Context(), fileEntries("a", "2", "b", "2")...)
	fileIs(t, err, os.ErrPermission)
	fileSays(t, err, `"b"`, dir)
	fileWant(t, f, map[string]string{"a": "1", "b": "1"})
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o777)
	_, err = OpenFile(dir, nil)
	fileIs(t, err, os.ErrPermission)
}

// Out of descriptors: the store closes those that it keeps, and goes on.
func TestFileOutOfDescriptors(t *testing.T) {
	mem := vfstest.NewMem()
	mem.MaxOpen = 12
	f := fileOpen(t, mem, fileMemDir, &FileOptions{MaxOpenFiles: 1000}, fileAtOnce)
	g := fileOpen(t, mem, fileMemDir, &FileOptions{MaxOpenFiles: 2}, fileAtOnce)
	want := map[string]string{}
	for n := range 20 {
		for i, s := range []*File{f, g} {
			var entries []Entry
			for k := range 30 {
				key := fmt.Sprint("k", (k*7+n)%60)
				entries = append(entries, Entry{Key: key, Value: fmt.Append(nil, n, i)})
				want[key] += fmt.Sprint(n, i)
			}
			if err := s.Append(t.Context(), entries...); err != nil {
				t.Fatal(err)
			}
		}
	}
	fileWant(t, g, want)
	fileWant(t, f, want)
	for _, s := range []*File{f, g} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := mem.OpenCount(); n != 0 {
		t.Fatalf("%d files are open after Close", n)
	}
}

// Once its files are open, an append allocates nothing for an entry.
func TestFileAppendAllocates(t *testing.T) {
	f := fileOpen(t, fileOS, t.TempDir(), &FileOptions{MaxOpenFiles: 1000}, filedir.Hooks{KeepLock: 1 << 40})
	var entries []Entry
	for k := range 500 {
		entries = append(entries, Entry{Key: fmt.Sprint("k", k), Value: make([]byte, 100)})
	}
	ctx := t.Context()
	fill := func() {
		if err := f.Append(ctx, entries...); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	// If the lock is let go of meanwhile, each file is looked at once more, by
	// name: then one run in many allocates for each.
	if n := testing.AllocsPerRun(50, fill); n > 100 {
		t.Fatalf("an append of 500 entries allocates %v times", n)
	}
}
