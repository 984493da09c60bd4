package tables_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSourceFilesOfScan limits the number of source files whose code runs when a scan is opened, and during a whole
// scan, so that a reader of the code needs to follow scans through only a few files.
func TestSourceFilesOfScan(t *testing.T) {
	if os.Getenv("PARTD_SCANNED") == "" {
		t.Skip("set PARTD_SCANNED=1 to run this test, which builds a program with coverage counters")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "scanned")
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "GOCOVERDIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
	run("go", "build", "-cover", "-covermode=atomic", "-coverpkg=github.com/go-partd/partd/tables/...", "-o", program, "./testdata/scanned")
	for _, c := range []struct {
		name     string
		args     []string
		maxFiles int
	}{{"opened", []string{"opened"}, 13}, {"read", nil, 20}} {
		coverDir := t.TempDir()
		run(program, append([]string{coverDir}, c.args...)...)
		list := filepath.Join(coverDir, "list")
		run("go", "tool", "covdata", "textfmt", "-i="+coverDir, "-o="+list)
		text, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]bool{}
		for line := range strings.Lines(string(text)) {
			file, _, _ := strings.Cut(line, ":")
			if !strings.HasSuffix(line, " 0\n") && strings.HasSuffix(file, ".go") && !strings.Contains(file, "/testdata/") {
				files[file] = true
			}
		}
		if len(files) > c.maxFiles || len(files) < 5 {
			t.Errorf("%s: a scan executes code in %d files, want 5 to %d: %v", c.name, len(files), c.maxFiles, files)
		}
	}
}
