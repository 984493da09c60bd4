package vfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestNamedLock checks that a lock counts only while the name refers to the locked file, and that waiting ends.
func TestNamedLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	if l, err := TryLock(OS{}, filepath.Join(name, "missing"), true); l != nil || err == nil {
		t.Errorf("TryLock in a missing directory = %v, %v", l, err)
	}
	held := must.Get(WaitLock(t.Context(), OS{}, name, true))(t)
	if l, err := TryLock(OS{}, name, true); l != nil || err != nil {
		t.Errorf("TryLock of a held lock = %v, %v", l, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if l, err := WaitLock(ctx, OS{}, name, true); l != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitLock of a held lock = %v, %v", l, err)
	}
	for _, replace := range []bool{false, true} { // first without a file of this name, then with another one
		must.Do(t, os.RemoveAll(name))
		if replace {
			must.Do(t, os.WriteFile(name, nil, 0o600))
		}
		if named, err := IsNamed(OS{}, held, name); named || err != nil {
			t.Errorf("IsNamed of another file = %v, %v", named, err)
		}
	}
	second := must.Get(TryLock(OS{}, name, true))(t)
	if named, err := IsNamed(OS{}, second, name); !named || err != nil {
		t.Errorf("IsNamed = %v, %v", named, err)
	}
	must.Do(t, second.Unlock())
	must.Do(t, held.Unlock())
	info := Info{Dev: 1, Ino: 2}
	for other, same := range map[Info]bool{{Dev: 1, Ino: 2, Size: 3}: true, {Dev: 1, Ino: 3}: false, {Dev: 2, Ino: 2}: false} {
		if info.SameFile(other) != same {
			t.Errorf("SameFile of %+v and %+v = %v", info, other, !same)
		}
	}
}

// TestReplace checks that a file has its new content or its old one, and that no temporary file stays after an error.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	for _, content := range []string{"old", "new"} {
		must.Do(t, Replace(name, dir, ".new-*", []byte(content)))
		if got, err := os.ReadFile(name); string(got) != content || err != nil {
			t.Errorf("the file contains %q, %v, want %q", got, err, content)
		}
	}
	if err := Replace(filepath.Join(name, "x"), dir, ".new-*", nil); err == nil {
		t.Error("a file below a file was replaced")
	}
	temp := filepath.Join(dir, "temp")
	must.Do(t, os.WriteFile(temp, []byte("damaged"), 0o600))
	failed := errors.New("writing failed")
	if err := Publish(temp, name, failed); !errors.Is(err, failed) {
		t.Errorf("Publish after an error = %v", err)
	}
	if got, err := os.ReadFile(name); string(got) != "new" || err != nil {
		t.Errorf("after errors, the file contains %q, %v", got, err)
	}
	if entries, err := os.ReadDir(dir); len(entries) != 1 || err != nil {
		t.Errorf("after errors, the directory contains %v, %v", entries, err)
	}
}

func TestRefuseLink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Skip("this system has no symbolic links for this user: ", err)
	}
	for name, refused := range map[string]bool{dir: false, filepath.Join(dir, "missing"): false, link: true} {
		if err := RefuseLink(OS{}, name); (err != nil) != refused || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("RefuseLink(%s) = %v", filepath.Base(name), err)
		}
	}
}
