package namespaces

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestDiskOfFilesWithHoles checks that diskUsed does not count holes in files.
func TestDiskOfFilesWithHoles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	must.Do(t, os.WriteFile(path, make([]byte, 1<<16), 0o666))
	must.Do(t, os.Truncate(path, 1<<30))
	if got := diskUsed(dir); got > 1<<20 {
		t.Errorf("diskUsed = %d for a file with a hole, want at most 1 MiB", got)
	}
}
