package filedir_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/testutil/must"
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
			if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, name)+" was not written by partd") {
				t.Errorf("foreign file %s: error %v, want an error that names the file", name, err)
			}
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
