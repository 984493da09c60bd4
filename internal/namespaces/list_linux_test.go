package namespaces

import (
	"os"
	"path/filepath"
	"testing"
)

// A hole in the middle of a file does not count.
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
		t.Errorf("a file with a hole uses %d bytes", got)
	}
}
