package filedir_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestFileDiskFull checks that a failed write on a full disk changes nothing, and that writes work again once space is
// free.
func TestFileDiskFull(t *testing.T) {
	dir := fileTmpfs(t, "1m")
	f := fileOpen(t, fileOS, filepath.Join(dir, "store"), nil, filedir.Hooks{})
	want := map[string]string{}
	piece := strings.Repeat("x", 3000)
	full := false
	for n := 0; n < 1000 && !full; n++ {
		var entries []partd.Entry
		for k := range 20 {
			entries = append(entries, partd.Entry{Key: fmt.Sprint("key", (k+n)%50), Value: fmt.Append(nil, n, piece[:100*k])})
		}
		err := f.Append(t.Context(), entries...)
		if err == nil {
			for _, e := range entries {
				want[e.Key] += string(e.Value)
			}
			continue
		}
		full = true
		fileWantErr(t, err, syscall.ENOSPC)
		if errors.Is(err, partd.ErrUnknownOutcome) {
			t.Fatalf("Append on a full disk: error %v, want a known outcome", err)
		}
	}
	if !full {
		t.Fatal("1000 appends did not fill the disk")
	}
	fileWantContent(t, f, want)
	// The large value fills the disk while the store writes the key's file, a new file, or the temporary file of a Set.
	large := make([]byte, 2<<20)
	for name, err := range map[string]error{
		"append to existing keys": f.Append(t.Context(), partd.Entry{Key: "key1", Value: []byte("a")}, partd.Entry{Key: "key2", Value: large}),
		"append to a new key":     f.Append(t.Context(), partd.Entry{Key: fileLong, Value: large}),
		"set":                     f.Set(t.Context(), "key3", large),
	} {
		if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, partd.ErrUnknownOutcome) {
			t.Fatalf("%s on a full disk: error %v, want ENOSPC and a known outcome", name, err)
		}
	}
	fileWantContent(t, f, want)
	fileWantContent(t, fileOpen(t, fileOS, filepath.Join(dir, "store"), nil, filedir.Hooks{}), want)
	for k := range 25 {
		key := fmt.Sprint("key", k)
		must.Do(t, f.Delete(t.Context(), key))
		delete(want, key)
	}
	fileAppend(t, f, "key1", piece, "key40", piece)
	want["key1"] = piece
	want["key40"] += piece
	fileWantContent(t, f, want)
}

// TestFileReadOnly checks that a store on a read-only disk can be read, and that failed appends do not change it.
func TestFileReadOnly(t *testing.T) {
	dir := fileTmpfs(t, "1m")
	store := filepath.Join(dir, "store")
	f := fileOpen(t, fileOS, store, nil, fileNoKeptLock)
	fileAppend(t, f, "a", "1")
	must.Do(t, f.Close())
	must.Do(t, fileRemountReadOnly(dir))
	readOnly := fileOpen(t, fileOS, store, nil, fileNoKeptLock)
	fileWantContent(t, readOnly, map[string]string{"a": "1"})
	for range 2 {
		err := readOnly.Append(t.Context(), fileEntries("a", "2")...)
		if !errors.Is(err, syscall.EROFS) || errors.Is(err, partd.ErrUnknownOutcome) {
			t.Fatalf("Append on a read-only disk: error %v, want EROFS and a known outcome", err)
		}
		fileWantContent(t, readOnly, map[string]string{"a": "1"})
	}
	if _, err := storetest.OpenDir(fileOS, filepath.Join(dir, "new"), nil, filedir.Hooks{}); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("OpenFile of a new directory on a read-only disk: error %v, want EROFS", err)
	}
}

// TestFileNoPermission checks the errors for files and directories without permissions.
func TestFileNoPermission(t *testing.T) {
	filled := fileFilled(t, nil)
	fault := &vfstest.Fault{Call: 1, Err: syscall.EACCES, Persists: true}
	_, err := storetest.OpenDir(vfstest.Inject(filled, fault.Check), fileMemDir, nil, fileNoKeptLock)
	fileWantErr(t, err, os.ErrPermission)
	fileWantInErr(t, err, fileMemDir)
	if os.Getuid() == 0 {
		return // permissions do not restrict root
	}
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, fileNoKeptLock)
	fileAppend(t, f, "a", "1", "b", "1")
	must.Do(t, os.Chmod(filepath.Join(dir, "b"), 0o444))
	must.Do(t, f.Close())
	f = fileOpen(t, fileOS, dir, nil, fileNoKeptLock)
	err = f.Append(t.Context(), fileEntries("a", "2", "b", "2")...)
	fileWantErr(t, err, os.ErrPermission)
	fileWantInErr(t, err, dir)
	if e, ok := errors.AsType[*filedir.KeyError](err); !ok || e.Key != "b" {
		t.Fatalf("error %v, want one of the key b", err)
	}
	fileWantContent(t, f, map[string]string{"a": "1", "b": "1"})
	must.Do(t, os.Chmod(dir, 0))
	defer os.Chmod(dir, 0o777)
	_, err = storetest.OpenDir(fileOS, dir, nil, filedir.Hooks{})
	fileWantErr(t, err, os.ErrPermission)
}

// TestFileOutOfDescriptors checks that a store closes cached files and continues when the process runs out of file
// descriptors.
func TestFileOutOfDescriptors(t *testing.T) {
	mem := vfstest.NewMem()
	mem.MaxOpen = 12
	f := fileOpen(t, mem, fileMemDir, &partd.FileOptions{MaxOpenFiles: 1000}, fileNoKeptLock)
	g := fileOpen(t, mem, fileMemDir, &partd.FileOptions{MaxOpenFiles: 2}, fileNoKeptLock)
	want := map[string]string{}
	for n := range 20 {
		for i, s := range []*storetest.Dir{f, g} {
			var entries []partd.Entry
			for k := range 30 {
				key := fmt.Sprint("k", (k*7+n)%60)
				entries = append(entries, partd.Entry{Key: key, Value: fmt.Append(nil, n, i)})
				want[key] += fmt.Sprint(n, i)
			}
			must.Do(t, s.Append(t.Context(), entries...))
		}
	}
	fileWantContent(t, g, want)
	fileWantContent(t, f, want)
	for _, s := range []*storetest.Dir{f, g} {
		must.Do(t, s.Close())
	}
	if n := mem.OpenCount(); n != 0 {
		t.Fatalf("%d files are still open after Close", n)
	}
}

// TestFileAppendAllocates checks that an append to open files allocates nothing per entry.
func TestFileAppendAllocates(t *testing.T) {
	f := fileOpen(t, fileOS, t.TempDir(), &partd.FileOptions{MaxOpenFiles: 1000}, filedir.Hooks{KeepLock: 1 << 40})
	var entries []partd.Entry
	for k := range 500 {
		entries = append(entries, partd.Entry{Key: fmt.Sprint("k", k), Value: make([]byte, 100)})
	}
	ctx := t.Context()
	fill := func() {
		must.Do(t, f.Append(ctx, entries...))
	}
	fill()
	// In the rare case that the lock is released between two runs, the next run allocates for each file.
	if n := testing.AllocsPerRun(50, fill); n > 100 {
		t.Fatalf("Append of 500 entries allocates %v times, want at most 100", n)
	}
}
