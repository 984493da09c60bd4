package output

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestSweep checks that Create removes the temporary files of dead processes, and nothing else.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	alive := must.Get(Create(t.Context(), path, false))(t)
	must.Get(alive.Write([]byte("begun")))(t)
	for name, text := range map[string]string{".out.partd-A.tmp": "begun", ".out.partd-B.tmp": "", ".other.partd-D.tmp": "x", ".out.partd-E": "x"} {
		must.Do(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666))
	}
	next := must.Get(Create(t.Context(), path, false))(t)
	got := entryNames(t, dir)
	for _, name := range []string{".other.partd-D.tmp", ".out.partd-E", filepath.Base(alive.temp), filepath.Base(next.temp)} {
		if !slices.Contains(got, name) {
			t.Errorf("%s was removed", name)
		}
	}
	if len(got) != 4 {
		t.Errorf("the directory contains %v, want 4 files", got)
	}
	must.Do(t, errors.Join(alive.Abort(), next.Abort()))
}

// TestSweepDuringCreate checks that Create never removes a temporary file that another process has just created.
func TestSweepDuringCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				f, err := Create(t.Context(), path, true)
				if err != nil {
					t.Error(err)
					return
				}
				if err := f.Commit(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := entryNames(t, dir); len(got) != 1 {
		t.Errorf("the directory contains %v, want only the file", got)
	}
}
