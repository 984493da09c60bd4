package tables

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFilesOfAScan limits the number of source files that a scan runs through until it is opened
// and to its end, so that its code stays easy to follow.
func TestFilesOfAScan(t *testing.T) {
	if os.Getenv("PARTD_SCANNED") == "" {
		t.Skip("PARTD_SCANNED=1 builds a program with counters")
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
		name string
		args []string
		most int
	}{{"opened", []string{"opened"}, 12}, {"read", nil, 21}} {
		to := t.TempDir()
		run(program, append([]string{to}, c.args...)...)
		list := filepath.Join(to, "list")
		run("go", "tool", "covdata", "textfmt", "-i="+to, "-o="+list)
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
		if len(files) > c.most || len(files) < 5 {
			t.Errorf("%s: a scan enters %d files, want %d at most: %v", c.name, len(files), c.most, files)
		}
	}
}
