package stage

import (
	"os"
	"path/filepath"
	"testing"
)

// GC removes an unfinished hash file of a killed process at once, but not one that a running process
// is writing.
func TestUnfinishedHashFile(t *testing.T) {
	r, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	unfinished := r.path(tmpDir, "hashes.1")
	collect := func(want int) {
		t.Helper()
		if err := os.WriteFile(unfinished, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := r.GC(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if found, err := filepath.Glob(r.path(tmpDir, "*")); err != nil || len(found) != want {
			t.Error(found, err)
		}
	}
	collect(0)
	whileWriting := func() error {
		collect(1)
		return nil
	}
	if err := r.ifUnused(t.Context(), "hashes", whileWriting); err != nil {
		t.Error(err)
	}
	r.hashes.isDirty = true
	saveWhileLocked := func() error { return r.hashes.save(r) } // another process is writing them
	if err := r.ifUnused(t.Context(), "hashes", saveWhileLocked); err != nil || !r.hashes.isDirty {
		t.Error(err, "an unsaved cache counts as saved")
	}
	if err := r.hashes.save(r); err != nil || r.hashes.isDirty {
		t.Error(err, "nothing was saved")
	}
	collect(0)
	if found, err := filepath.Glob(r.path(locksDir, "*")); err != nil || len(found) > 0 {
		t.Error(found, err)
	}
}
