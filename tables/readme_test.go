package tables_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// block returns what is between two marks in the README.
func block(t *testing.T, from, to string) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), from)
	inner, _, ended := strings.Cut(rest, to)
	if !ok || !ended {
		t.Fatalf("the README has no %q", from)
	}
	return inner
}

// shell runs a script.
func shell(t *testing.T, dir, script string, env ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, stderr.String())
	}
	return string(out)
}

// The README's first command prints what it says there.
func TestReadmeCommand(t *testing.T) {
	script := strings.TrimSpace(block(t, "read it by a\nfilter:\n\n", "\n\n"))
	if !strings.HasPrefix(script, "GOWORK=off go run ") {
		t.Fatal(script)
	}
	if got, want := shell(t, ".", script), block(t, "The first one prints\n\n```\n", "```"); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
}

// The README's tour runs as it is, with the command in the path.
func TestReadmeTour(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/partd-tables")
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"birdstrikes.csv", "airports.csv"} {
		path, err := filepath.Abs(filepath.Join("..", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	script := block(t, "```sh\ngo install ./cmd/partd-tables\n", "```")
	out := shell(t, dir, script, "PATH="+bin+":"+os.Getenv("PATH"))
	for _, want := range []string{"1995-09-19,3811576\n", "sym,price\nBRK.B,700.5\n", "overwrite", "column Flight Date", "parquet/NYSE/trades.parquet"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s\nlacks %s", out, want)
		}
	}
	if n := strings.Count(out, "BRK.B,700.5\n"); n != 2 {
		t.Errorf("the row of the repeated put is there %d times in two listings", n)
	}
}
