package stage

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestUnfinishedHashFile checks that GC removes the unfinished hash file of a killed process immediately, but
// not the file that a running process is writing.
func TestUnfinishedHashFile(t *testing.T) {
	r := must.Get(Open(t.TempDir(), nil))(t)
	defer r.Close()
	unfinished := r.path(tmpDir, "hashes.1")
	collect := func(want int) {
		t.Helper()
		must.Do(t, os.WriteFile(unfinished, nil, 0o666))
		if _, err := r.GC(t.Context(), nil); err != nil {
			t.Errorf("GC failed: %v", err)
		}
		if files, err := filepath.Glob(r.path(tmpDir, "*")); err != nil || len(files) != want {
			t.Errorf("after GC, tmp contains %q, %v, want %d files", files, err, want)
		}
	}
	collect(0)
	whileWriting := func() error {
		collect(1)
		return nil
	}
	must.Do(t, r.ifUnused(t.Context(), "hashes", whileWriting))
	r.hashes.isDirty = true
	// ifUnused calls saveWhileLocked with the lock held, like another process that writes the cache file.
	saveWhileLocked := func() error { return r.hashes.save(r) }
	if err := r.ifUnused(t.Context(), "hashes", saveWhileLocked); err != nil || !r.hashes.isDirty {
		t.Error("save marked the cache as saved although it was locked:", err)
	}
	if err := r.hashes.save(r); err != nil || r.hashes.isDirty {
		t.Error("save did not save the cache:", err)
	}
	collect(0)
	if files, err := filepath.Glob(r.path(locksDir, "*")); err != nil || len(files) > 0 {
		t.Errorf("the lock files %q remain, want none; error: %v", files, err)
	}
}

// TestRecentHashIsNotCached checks that the hash of a file that just changed is not cached, because a further change
// may leave the file's stamp the same.
func TestRecentHashIsNotCached(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raw")
	must.Do(t, os.WriteFile(path, []byte("1"), 0o666))
	h := openHashes(filepath.Join(t.TempDir(), "hashes.json"))
	if _, err := h.sum(path); err != nil || len(h.byPath) > 0 || h.isDirty {
		t.Errorf("sum of a new file: %v, and the cache contains %v, want nothing", err, h.byPath)
	}
}
