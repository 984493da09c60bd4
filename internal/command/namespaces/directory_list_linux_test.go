package namespaces

import (
	"os"
	"path/filepath"
	"testing"
)

// TestDiskOfFilesWithHoles checks that diskUsed does not count holes in files.
func TestDiskOfFilesWithHoles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, make([]byte, 1<<16), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<30); err != nil {
		t.Fatal(err)
	}
	if got := diskUsed(dir); got > 1<<20 {
		t.Errorf("diskUsed = %d for a file with a hole, want at most 1 MiB", got)
	}
}
