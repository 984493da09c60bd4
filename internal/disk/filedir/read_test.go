package filedir_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestFileClosed checks that operations on a closed store return ErrClosed, but open readers keep working.
func TestFileClosed(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	fileAppend(t, f, "a", "value")
	r := must.Get(f.Open(ctx, "a"))(t)
	must.Do(t, f.Close())
	if err := f.Close(); err != nil {
		t.Fatal("second Close:", err)
	}
	for name, op := range map[string]func() error{
		"Append":       func() error { return f.Append(ctx, fileEntries("a", "1")...) },
		"empty Append": func() error { return f.Append(ctx) },
		"Get":          func() error { _, err := f.Get(ctx, "a"); return err },
		"empty Get":    func() error { _, err := f.Get(ctx); return err },
		"Set":          func() error { return f.Set(ctx, "a", nil) },
		"SetOnce":      func() error { return f.SetOnce(ctx, "a", nil) },
		"Delete":       func() error { return f.Delete(ctx, "a") },
		"Pop":          func() error { _, err := f.Pop(ctx, "a"); return err },
		"Drop":         func() error { return f.Drop(ctx) },
		"Sync":         func() error { return f.Sync(ctx) },
		"Stat":         func() error { _, _, _, err := f.Stat(ctx); return err },
		"Open":         func() error { _, err := f.Open(ctx, "a"); return err },
		"Keys":         func() error { return f.Keys(ctx, func(string, int64) bool { return true }) },
		"Scan":         func() error { return storetest.ErrorOfFirst(f.Scan(ctx)) },
	} {
		must.Fail(t, op(), partd.ErrClosed, "%s after Close", name)
	}
	if p, err := io.ReadAll(r); err != nil || string(p) != "value" {
		t.Fatalf("ReadAll from a reader opened before Close = %q, %v, want %q", p, err, "value")
	}
	must.Do(t, r.Close())
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, partd.ErrClosed) {
		t.Fatalf("Read from a closed reader: error %v, want ErrClosed", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "%tmp")); err == nil {
		t.Fatal("Close left temporary files")
	}
}

// TestFileCutWhileRead checks that truncating a value during a read causes an error, never a short value.
func TestFileCutWhileRead(t *testing.T) {
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	fileAppend(t, f, "a", strings.Repeat("x", 1_000_000), "b", strings.Repeat("y", 1_000_000))
	r := must.Get(f.Open(t.Context(), "a"))(t)
	defer r.Close()
	must.Do(t, os.Truncate(filepath.Join(dir, "a"), 10))
	if _, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("ReadAll of a truncated value: error %v, want ErrUnexpectedEOF", err)
	}
	for c, err := range f.Scan(t.Context()) {
		if err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("Scan of a truncated value: error %v, want ErrUnexpectedEOF", err)
			}
			return
		}
		if c.Offset == 0 && !c.Last {
			must.Do(t, os.Truncate(filepath.Join(dir, c.Key), 10))
		}
	}
	t.Fatal("Scan did not detect that a value was truncated")
}

// TestFileGetOfReplacedValue replaces a value while Get reads it, as Python does. Get must return the new value.
func TestFileGetOfReplacedValue(t *testing.T) {
	mem := vfstest.NewMem()
	enabled := false
	f := fileOpen(t, vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if !enabled || op != vfstest.OpRead || name != fileMemDir+"/a" {
			return nil
		}
		enabled = false
		file, err := mem.OpenFile(name, os.O_RDWR|os.O_TRUNC, 0)
		if err == nil {
			_, err = file.WriteAt([]byte("new"), 0)
			err = errors.Join(err, file.Close())
		}
		return err
	}), fileMemDir, nil, fileNoKeptLock)
	fileAppend(t, f, "a", "a longer value")
	enabled = true
	got, err := f.Get(t.Context(), "a")
	if err != nil || string(got[0]) != "new" || enabled {
		t.Fatalf("Get of a value that is replaced meanwhile = %q, %v, want the new value", got, err)
	}
}

func TestFileLongKeyDamaged(t *testing.T) {
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	fileAppend(t, f, fileLong, "1")
	names, err := filepath.Glob(filepath.Join(dir, "%k*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("the files of the long key are %q (error %v), want one", names, err)
	}
	for _, damage := range []func() error{
		func() error { return os.WriteFile(names[0], []byte("another"), 0o666) },
		func() error { return os.WriteFile(names[0], make([]byte, partd.MaxKeyLen+1), 0o666) },
		func() error { return os.Remove(names[0]) },
	} {
		must.Do(t, damage())
		_, err := fileContent(f)
		var corrupt *partd.CorruptError
		if !errors.As(err, &corrupt) || corrupt.Path != names[0] {
			t.Fatalf("reading the store: error %v, want a partd.CorruptError for %s", err, names[0])
		}
	}
	if v, err := f.Get(t.Context(), fileLong); err != nil || string(v[0]) != "1" {
		t.Fatalf("Get of the long key = %q, %v, want 1, because Get does not need the key's text", v, err)
	}
}

// TestFileHardLink removes a file that also has a hard link. Later appends must not change the link's content.
func TestFileHardLink(t *testing.T) {
	dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	f := fileOpen(t, fileOS, dir, nil, fileNoKeptLock)
	fileAppend(t, f, "a", "1")
	must.Do(t, os.Link(filepath.Join(dir, "a"), backup))
	fileAppend(t, f, "b", "1")
	must.Do(t, os.Remove(filepath.Join(dir, "a")))
	fileAppend(t, f, "a", "2")
	fileWantContent(t, f, map[string]string{"a": "2", "b": "1"})
	if got := string(fileRead(t, backup)); got != "1" {
		t.Fatalf("the hard link contains %q, want %q", got, "1")
	}
}
