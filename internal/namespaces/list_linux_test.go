package namespaces

import (
	"os"
	"path/filepath"
	"testing"
)

// What was given back in the middle of a file is not counted any more.
func TestDiskOfFilesWithHoles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, make([]byte, 1<<16), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<30); err != nil {
		t.Fatal(err)
	}
	if got := diskOf(dir); got > 1<<20 {
		t.Errorf("with a hole behind it, which takes nothing, it takes %d bytes", got)
	}
}
