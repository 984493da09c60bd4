package tabletest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Program returns the path of the program partd-tables. Its directory contains nothing else.
func Program(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	// Linking takes several seconds. Unlike "go build", "go run" keeps the linked program in the build cache,
	// so that the other packages' tests only need to find it there. The first "go run" runs the program in a
	// temporary directory, which it then removes, so a symbolic link would not do.
	cmd := exec.CommandContext(t.Context(), "go", "run", "-exec", `sh -c 'ln "$0" "$PROGRAM_DIR" 2>/dev/null || cp "$0" "$PROGRAM_DIR"'`, "github.com/go-partd/partd/tables/cmd/partd-tables")
	cmd.Env = append(os.Environ(), "PROGRAM_DIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building partd-tables failed: %v\n%s", err, out)
	}
	return filepath.Join(dir, "partd-tables")
}
