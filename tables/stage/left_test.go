package stage

import (
	"os"
	"path/filepath"
	"testing"
)

// What a process left that was killed as it wrote hashes goes at once, but not what one
// writes that lives.
func TestHashesOfTheKilled(t *testing.T) {
	r, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	left := r.path(tmpDir, "hashes.1")
	collected := func(want int) {
		t.Helper()
		if err := os.WriteFile(left, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := r.GC(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if found, err := filepath.Glob(r.path(tmpDir, "*")); err != nil || len(found) != want {
			t.Error(found, err)
		}
	}
	collected(0)
	writes := func() error {
		collected(1)
		return nil
	}
	if err := r.unused(t.Context(), "hashes", writes); err != nil {
		t.Error(err)
	}
	r.hashes.dirty = true
	busy := func() error { return r.hashes.save(r) } // somebody else writes them
	if err := r.unused(t.Context(), "hashes", busy); err != nil || !r.hashes.dirty {
		t.Error(err, "what was not written is taken for written")
	}
	if err := r.hashes.save(r); err != nil || r.hashes.dirty {
		t.Error(err, "nothing was written")
	}
	collected(0)
	if found, err := filepath.Glob(r.path(locksDir, "*")); err != nil || len(found) > 0 {
		t.Error(found, err)
	}
}
