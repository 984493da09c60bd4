package cli

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/flightd"
)

// TestPandas puts frames with all pandas types. pandas must read the same rows back: before and after a fold (the move
// from the tail to data files), after an append, after a replacement, and over Flight.
func TestPandas(t *testing.T) {
	python := procs.Python(t, "pandas")
	dir, frames := filepath.Join(t.TempDir(), "tables"), t.TempDir()
	peer := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(python, append([]string{"testdata/pandas_peer.py"}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("pandas_peer.py failed: %v\n%s", err, out)
		}
		return string(out)
	}
	names := strings.Fields(peer("make", frames))
	if len(names) < 15 {
		t.Fatalf("Python made %d frames, want at least 15: %v", len(names), names)
	}
	files := t.TempDir()
	got := []string{"check"}
	get := func(name, state string, copies int) {
		t.Helper()
		path := filepath.Join(files, name+" "+state+".arrow")
		mustRun(t, "", "get", name, "--dir", dir, "--format", "arrow", "-o", path)
		got = append(got, name, path, fmt.Sprint(copies))
	}
	put := func(name, mode string) {
		t.Helper()
		mustRun(t, "", "put", name, filepath.Join(frames, name+".arrow"), "--dir", dir, "--mode", mode)
	}
	for _, name := range names {
		put(name, "append")
		get(name, "tail", 1)
	}
	mustRun(t, "", "fold", "--dir", dir)
	for _, name := range names {
		get(name, "folded", 1)
		put(name, "append")
		get(name, "twice", 2)
		put(name, "replace")
		get(name, "replaced", 1)
	}
	peer(got...)
	url, token := remoteServer(t, flightd.Admin)
	peer("flight", url, token)
}

// TestConvert checks that convert infers the types of text columns, or uses the types of --like.
func TestConvert(t *testing.T) {
	file, typesFile := writeTemp(t, "a.csv", "code,n\n007,1\n008,2\n"), filepath.Join(t.TempDir(), "like.arrow")
	wantOutput(t, "{\"code\":\"007\",\"n\":1}\n{\"code\":\"008\",\"n\":2}\n", "convert", file, "--to-format", "jsonl")
	mustRun(t, "", "convert", file, "-o", typesFile)
	if got := mustRun(t, "code,n\n1,2\n", "convert", "-", "--from", "csv", "--like", typesFile, "--to-format", "jsonl"); got != "{\"code\":\"1\",\"n\":2}\n" {
		t.Errorf("convert - --from csv: got %q, want %q", got, "{\"code\":\"1\",\"n\":2}\n")
	}
	wantOutput(t, "code,n\n007,1\n008,2\n", "convert", typesFile)
	wantOutput(t, "n,code\n2,008\n", "convert", typesFile, "--where", "n > 1 and code != ''", "--columns", "n,code")
	wantOutput(t, "n\n1\n2\n", "convert", file, "--columns", "n")
	if _, stderr, code := command(t, "a\n", "convert", "-"); code != cliutil.ExitUsage || !strings.Contains(stderr, "use --from") {
		t.Errorf("convert -: exit code %d, stderr %q, want a usage error about --from", code, stderr)
	}
}
