package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	_ "github.com/go-partd/partd/tables/postgres" // the program also imports it
)

func runIn(t *testing.T, input string, args ...string) string {
	t.Helper()
	inputFile := filepath.Join(t.TempDir(), "in")
	must.Do(t, os.WriteFile(inputFile, []byte(input), 0o600))
	f, err := os.Open(inputFile)
	must.Do(t, err)
	defer f.Close()
	var out, errs strings.Builder
	if code := runCommand(context.Background(), args, &app{in: f, out: &out, err: &errs}); code != 0 {
		t.Fatalf("%q: stderr %s", args, errs.String())
	}
	return out.String()
}

// TestWarehouse checks that the commands, pyiceberg and DuckDB can use one warehouse, and that each sees the
// changes of the others.
func TestWarehouse(t *testing.T) {
	python := procs.Python(t, "warehouse")
	g, db := procs.StartGateway(t), procs.StartPostgres(t)
	location := []string{
		"--dir", fmt.Sprintf("s3://bucket/house?endpoint=http://%s", g.Addr), "--catalog", db.URL(),
		"--cache-dir", t.TempDir(), "--cache-size", "10MB",
	}
	do := func(input string, args ...string) string { return runIn(t, input, append(args, location...)...) }
	do("n\n1\n2\n", "put", "x", "-", "--format", "csv", "--bucket", "b")
	do("n\n3\n", "put", "x", "-", "--format", "csv", "--bucket", "b", "--mode", "append")
	peer := func() string {
		cmd := exec.CommandContext(t.Context(), python, "testdata/warehouse_peer.py", db.URL(), "http://"+g.Addr, "s3://bucket/house", "b.x")
		cmd.Stderr = os.Stderr
		out := must.Get(cmd.Output())(t)
		return string(out)
	}
	if got, want := peer(), "[1, 2, 3]\n[(3, 6)]\n"; got != want {
		t.Errorf("pyiceberg and DuckDB read %s, want %s", got, want)
	}
	if got := do("", "get", "x", "--bucket", "b"); !strings.Contains(got, "1000") || strings.Count(got, "\n") != 5 {
		t.Errorf("get x: got %s, want 4 rows with the peer's row 1000", got)
	}
	do("n\n4\n", "put", "x", "-", "--format", "csv", "--bucket", "b", "--mode", "append", "--tail", t.TempDir()+"/tail")
	if got := do("", "sql", "SELECT sum(n)::BIGINT AS s FROM x", "--bucket", "b"); got != "s\n1006\n" {
		t.Errorf("sql = %q, want the sum of the folded rows, without unfolded rows of another process", got)
	}
	do("", "expire", "--older-than", "0s")
	if got, want := peer(), "[1, 2, 3, 1000]\n[(4, 1006)]\n"; got != want {
		t.Errorf("after expire, pyiceberg and DuckDB read %s, want %s", got, want)
	}
	if got := do("", "list"); !strings.Contains(got, "x") {
		t.Errorf("list = %s, want table x", got)
	}
	var errs strings.Builder
	if code := runCommand(t.Context(), []string{"list", "--dir", "s3://bucket/house"}, &app{in: os.Stdin, out: &errs, err: &errs}); code == 0 || !strings.Contains(errs.String(), "need a catalog") {
		t.Errorf("list without --catalog: exit code %d, stderr %q, want an error about the catalog", code, errs.String())
	}
}
