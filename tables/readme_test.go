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
	return blockOf(t, "README.md", from, to)
}

func blockOf(t *testing.T, file, from, to string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), from)
	inner, _, ended := strings.Cut(rest, to)
	if !ok || !ended {
		t.Fatalf("%s has no %q", file, from)
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

// The README's tour runs as it is, with the command in the path, and so does what
// docs/transform.md and docs/series.md say.
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
	script := block(t, "[../testdata](../testdata):\n\n```sh\n", "```")
	out := shell(t, dir, script, "PATH="+bin+":"+os.Getenv("PATH"))
	for _, want := range []string{"1995-09-19,3811576\n", "sym,price\nBRK.B,700.5\n", "sym,total\nBRK.B,700.5\n", "overwrite", "column Flight Date", "parquet/NYSE/trades.parquet"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s\nlacks %s", out, want)
		}
	}
	if n := strings.Count(out, "BRK.B,700.5\n"); n != 3 {
		t.Errorf("the row of the repeated put is there %d times in three listings", n)
	}

	path := "PATH=" + bin + ":" + os.Getenv("PATH")
	if out := shell(t, dir, blockOf(t, "docs/snapshots.md", "```sh\n", "```"), path); !strings.Contains(out, "count_star()\n") || !strings.Contains(out, "before-import") {
		t.Error(out)
	}
	if out := shell(t, dir, blockOf(t, "docs/snapshots.md", "through an index.\n\n```sh\n", "```"), path); !strings.Contains(out, `["09:30","16:00"]`) || !strings.Contains(out, "NYSE") {
		t.Error(out)
	}

	backup := `printf 'sym,price\nA,1.5\n' | partd-tables put trades - --format csv --bucket NYSE
partd-tables backup --to /mnt/backup --name sunday
`
	page, err := os.ReadFile("docs/backup.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(page), "```sh\n")[1:] {
		inner, _, _ := strings.Cut(part, "```")
		backup += inner
	}
	mnt := t.TempDir()
	out = shell(t, t.TempDir(), strings.ReplaceAll(backup, "/mnt", mnt)+"partd-tables get trades --bucket NYSE --dir elsewhere\n", path)
	for _, want := range []string{"copied\tNYSE\ttrades\t1 rows\t", "sunday", "unchanged\tNYSE\ttrades", "tuesday", "A,1.5\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s\nlacks %q", out, want)
		}
	}

	series := t.TempDir()
	for _, c := range []struct{ page, dir, from, before string }{
		{"docs/transform.md", t.TempDir(), "", "prints\n\n"},
		{"docs/pull.md", t.TempDir(), "", "prints\n\n"},
		{"docs/series.md", series, "", "prints\n\n"},
		{"docs/series.md", series, "## Corrections\n\n", "leaves\n\n"},
		{"docs/series.md", series, "at about 128 MB.\n\n", "chosen, and why:\n\n"},
	} {
		got := shell(t, c.dir, blockOf(t, c.page, c.from+"```sh\n", "```"), path)
		if want := blockOf(t, c.page, c.before+"```\n", "```"); got != want {
			t.Errorf("%s: %s, want\n%s", c.page, got, want)
		}
	}
}
