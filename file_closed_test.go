package partd

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/filedir"
)

func TestFileClosed(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	fileAppend(t, f, "a", "value")
	r, err := f.Open(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal("closing twice:", err)
	}
	for name, op := range map[string]func() error{
		"Append":       func() error { return f.Append(ctx, fileEntries("a", "1")...) },
		"empty Append": func() error { return f.Append(ctx) },
		"Get":          func() error { _, err := f.Get(ctx, "a"); return err },
		"Get of none":  func() error { _, err := f.Get(ctx); return err },
		"Set":          func() error { return f.Set(ctx, "a", nil) },
		"SetOnce":      func() error { return f.SetOnce(ctx, "a", nil) },
		"Delete":       func() error { return f.Delete(ctx, "a") },
		"Pop":          func() error { _, err := f.Pop(ctx, "a"); return err },
		"Drop":         func() error { return f.Drop(ctx) },
		"Sync":         func() error { return f.Sync(ctx) },
		"Stat":         func() error { _, err := f.Stat(ctx); return err },
		"Open":         func() error { _, err := f.Open(ctx, "a"); return err },
		"Keys": func() error {
			for _, err := range f.Keys(ctx) {
				return err
			}
			return nil
		},
		"Scan": func() error {
			for _, err := range f.Scan(ctx) {
				return err
			}
			return nil
		},
	} {
		if err := op(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	if p, err := io.ReadAll(r); err != nil || string(p) != "value" {
		t.Fatalf("a reader opened before Close: %q, %v", p, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, ErrClosed) {
		t.Fatalf("reading a closed reader: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "%tmp")); err == nil {
		t.Fatal("a temporary file remains")
	}
}

// TestFileSetKeepsReaders checks that Set does not affect readers of the old value.
func TestFileSetKeepsReaders(t *testing.T) {
	f := fileOpen(t, fileOS, t.TempDir(), nil, filedir.Hooks{})
	fileAppend(t, f, "a", strings.Repeat("old", 1000))
	r, err := f.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := f.Set(t.Context(), "a", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if p, err := io.ReadAll(r); err != nil || string(p) != strings.Repeat("old", 1000) {
		t.Fatalf("%.20q, %v", p, err)
	}
	fileAppend(t, f, "a", "er")
	fileWant(t, f, map[string]string{"a": "newer"})
}

// TestFileCutWhileRead checks that truncating a value during a read causes an error, never a short value.
func TestFileCutWhileRead(t *testing.T) {
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	fileAppend(t, f, "a", strings.Repeat("x", 1_000_000), "b", strings.Repeat("y", 1_000_000))
	r, err := f.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := os.Truncate(filepath.Join(dir, "a"), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("%v", err)
	}
	for c, err := range f.Scan(t.Context()) {
		if err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
			return
		}
		if c.Offset == 0 && !c.Last {
			if err := os.Truncate(filepath.Join(dir, c.Key), 10); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Fatal("Scan did not detect that a value was truncated")
}

// TestFileHardLink checks that if a key's file has a hard link (such as a backup) and is removed, the link
// keeps its bytes and the key starts again.
func TestFileHardLink(t *testing.T) {
	dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	f := fileOpen(t, fileOS, dir, nil, fileNoKeptLock)
	fileAppend(t, f, "a", "1")
	if err := os.Link(filepath.Join(dir, "a"), backup); err != nil {
		t.Fatal(err)
	}
	fileAppend(t, f, "b", "1")
	if err := os.Remove(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	fileAppend(t, f, "a", "2")
	fileWant(t, f, map[string]string{"a": "2", "b": "1"})
	if got := string(fileRead(t, backup)); got != "1" {
		t.Fatalf("the removed file was appended to: %q", got)
	}
}

// TestFileLongKeyDamaged checks that damage to the file of a long key is detected.
func TestFileLongKeyDamaged(t *testing.T) {
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	fileAppend(t, f, fileLong, "1")
	names, err := filepath.Glob(filepath.Join(dir, "%k*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	for _, damage := range []func() error{
		func() error { return os.WriteFile(names[0], []byte("another"), 0o666) },
		func() error { return os.WriteFile(names[0], make([]byte, MaxKeyLen+1), 0o666) },
		func() error { return os.Remove(names[0]) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		_, err := fileContent(f)
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || corrupt.Path != names[0] {
			t.Fatalf("%v", err)
		}
	}
	if v, err := f.Get(t.Context(), fileLong); err != nil || string(v[0]) != "1" {
		t.Fatalf("%q, %v", v, err) // Get does not need the key's text
	}
}
