package objstore

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestListRemovesLeftovers checks that a listing removes a killed writer's file after a day, but not a file that may
// still be written.
func TestListRemovesLeftovers(t *testing.T) {
	d := must.Get(OpenDirectory(t.TempDir()))(t)
	must.Do(t, d.Create(t.Context(), "a/b", []byte("1")))
	dir := filepath.Join(d.String(), "a")
	old, young := filepath.Join(dir, tempPrefix+"OLD"), filepath.Join(dir, tempPrefix+"YOUNG")
	for file, age := range map[string]time.Duration{old: 25 * time.Hour, young: time.Hour, filepath.Join(dir, "b"): 25 * time.Hour} {
		must.Do(t, os.WriteFile(file, []byte("1"), 0o666))
		must.Do(t, os.Chtimes(file, time.Time{}, time.Now().Add(-age)))
	}
	var names []string
	for o, err := range d.List(t.Context(), "a/", "") {
		must.Do(t, err)
		names = append(names, o.Name)
	}
	if len(names) != 1 || names[0] != "a/b" {
		t.Errorf("the listing contains %q, want a/b", names)
	}
	must.Fail(t, must.Err(os.Stat(old)), fs.ErrNotExist, "Stat of the old file, which must be removed")
	if _, err := os.Stat(young); err != nil {
		t.Errorf("the new file was removed: %v", err)
	}
}
