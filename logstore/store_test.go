package logstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
)

func mustOpen(t *testing.T, dir string, opts *Options) *Store {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustAppend(t *testing.T, s *Store, key, value string) {
	t.Helper()
	if err := s.Append(t.Context(), partd.Entry{Key: key, Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
}

func wantValue(t *testing.T, s *Store, key, want string) {
	t.Helper()
	got, err := s.Get(t.Context(), key)
	if err != nil || string(got[0]) != want {
		t.Fatalf("key %q: %.100q, %v, want %.100q", key, got, err, want)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Memory: -1}, {Memory: MinMemory - 1}, {Memory: MaxMemory + 1}, {FileSize: -1}, {MaxSessions: -1}, {Compression: 9},
	} {
		if s, err := Open(t.TempDir(), &o); err == nil {
			t.Errorf("%+v was accepted", o)
			_ = s.Close()
		}
	}
	for _, c := range []Compression{None, S2, Zstd} {
		if got, err := ParseCompression(c.String()); err != nil || got != c {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	if _, err := ParseCompression("lzw"); err == nil || !strings.Contains(err.Error(), "zstd") {
		t.Errorf("the error must list the formats: %v", err)
	}
}

// A store in use must be refused, with the name of the process that uses it.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, nil)
	mustAppend(t, s, "a", "1")
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []*Options{nil, {ReadOnly: true}} {
		_, err := Open(dir, o)
		if !errors.Is(err, partd.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d on %s (logstore.test, since ", os.Getpid(), host)) {
			t.Fatalf("second open: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r1 := mustOpen(t, dir, &Options{ReadOnly: true})
	r2 := mustOpen(t, dir, &Options{ReadOnly: true})
	wantValue(t, r1, "a", "1")
	wantValue(t, r2, "a", "1")
	// The note in the lock file names the last writer, not a reader.
	if _, err := Open(dir, nil); !errors.Is(err, partd.ErrInUse) || !strings.Contains(err.Error(), "open for reading") || strings.Contains(err.Error(), "process ") {
		t.Fatalf("open for writing while readers exist: %v", err)
	}
	if err := r1.Append(t.Context(), partd.Entry{Key: "a", Value: []byte("2")}); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("change of a store opened for reading: %v", err)
	}
	if err := r1.Drop(t.Context()); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("Drop of a store opened for reading: %v", err)
	}
}

// Deleting the lock file lets other processes in. The store must notice that before it
// changes data that they may have changed.
func TestLockFileRemoved(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "a", "1")
	if err := os.Remove(filepath.Join(dir, lockName)); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); !errors.Is(err, errLockLost) {
		t.Fatalf("Flush: %v", err)
	}
	if err := s.Append(t.Context(), partd.Entry{Key: "a", Value: []byte("2")}); !errors.Is(err, partd.ErrNeedsReopen) {
		t.Fatalf("Append: %v", err)
	}
	wantValue(t, s, "a", "1")
	if err := s.Close(); err == nil {
		t.Fatal("Close returned no error")
	}
	s = mustOpen(t, dir, nil)
	wantValue(t, s, "a", "1")
}

// The store must not change foreign files.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	names := []string{"notes.txt", "seg-1", "seg-00000001.bak", "wal-3", "blob-x0000001", ".hidden", "MANIFEST.old"}
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n), []byte(n), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	s := mustOpen(t, dir, nil)
	mustAppend(t, s, "a", "1")
	for _, err := range []error{s.Flush(t.Context()), s.Drop(t.Context()), s.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s = mustOpen(t, dir, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if b, err := os.ReadFile(filepath.Join(dir, n)); err != nil || string(b) != n {
			t.Errorf("%s: %q, %v", n, b, err)
		}
	}
}

func TestNoStoreHere(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none"), &Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("open for reading in a missing directory: %v", err)
	}
	if _, err := Open(dir, &Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("open for reading in an empty directory: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, nil); err == nil {
		t.Error("a file was opened as a store")
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(link, nil); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a symbolic link: %v", err)
	}
	if _, err := Open("", nil); err == nil {
		t.Error("an empty directory name was accepted")
	}
}

// A change of the working directory must not move an open store.
func TestChangeOfDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	s := mustOpen(t, "a/b", nil)
	t.Chdir(t.TempDir())
	mustAppend(t, s, "k", "v")
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantValue(t, s, "k", "v")
	if entries, err := os.ReadDir("."); err != nil || len(entries) > 0 {
		t.Fatal(entries, err)
	}
}

// A file of a newer format must be refused, but not reported as damage.
func TestNewerFormat(t *testing.T) {
	for _, name := range []string{manifestName, "seg-00000001"} {
		dir := t.TempDir()
		s := mustOpen(t, dir, nil)
		mustAppend(t, s, "a", "1")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[8] = manifestVersion + 1
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), "use a newer") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
