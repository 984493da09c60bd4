package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/cliutil"
)

func TestSQL(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tables")
	run := func(args ...string) string { t.Helper(); return mustRun(t, "", append(args, "--dir", dir)...) }
	csv := writeTemp(t, "trades.csv", "sym,price\nA,1.5\nB,2.5\nA,3.5\n")
	run("put", "trades", csv, "--bucket", "NYSE")
	run("fold")
	run("put", "trades", csv, "--bucket", "NYSE", "--mode", "append")
	run("put", "names", writeTemp(t, "names.csv", "sym,name\nA,Alpha\n"))
	if got := run("sql", "SELECT sym, count(*) AS n, sum(price) AS total FROM trades GROUP BY sym ORDER BY sym", "--bucket", "NYSE"); got != "sym,n,total\nA,4,10\nB,2,5\n" {
		t.Errorf("sql of groups: got %q, want %q", got, "sym,n,total\nA,4,10\nB,2,5\n")
	}
	if got := run("sql", `SELECT name, price FROM "NYSE".trades JOIN names USING (sym) WHERE price < 2`, "--format", "jsonl"); got != strings.Repeat(`{"name":"Alpha","price":1.5}`+"\n", 2) {
		t.Errorf("sql of a join: got %q, want two rows of Alpha", got)
	}
	if got := run("sql", "SELECT count(*) AS n FROM trades", "--bucket", "NYSE", "--version", "1"); got != "n\n3\n" {
		t.Errorf("sql of an old version: got %q, want %q", got, "n\n3\n")
	}
	out := filepath.Join(t.TempDir(), "out.parquet")
	run("sql", `SELECT * FROM "NYSE".trades`, "-o", out)
	run("put", "copy", out)
	if got := run("sql", "SELECT sum(price) AS s FROM copy"); got != "s\n15\n" {
		t.Errorf("sql of the copied file: got %q, want %q", got, "s\n15\n")
	}
	for sql, want := range map[string]string{
		"SELECT * FROM trade":           `line 1, column 15: table "trade"`,
		"SELECT * FROM read_csv('x')":   "is not available",
		"COPY names TO '/tmp/x'":        "only a single SELECT statement is allowed",
		"SELECT foo FROM names":         `line 1, column 8: Binder error: Referenced column "foo" not found`,
		"SELECT 1 FROM names, \"names2": "line 1, column 22: Parser error",
	} {
		_, stderr, code := command(t, "", "sql", sql, "--dir", dir)
		if code != cliutil.ExitFailed || !strings.Contains(stderr, want) || strings.Contains(stderr, dir) {
			t.Errorf("%s: exit code %d, stderr %s; want a failure that does not name the directory", sql, code, stderr)
		}
	}
}
