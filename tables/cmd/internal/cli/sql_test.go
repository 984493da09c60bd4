package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables/flightd"
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

func TestSQLWrites(t *testing.T) {
	url, token := remoteServer(t, flightd.Admin)
	for name, place := range map[string][]string{"directory": {"--dir", filepath.Join(t.TempDir(), "tables")}, "server": {"--server", url, "--token-file", token}} {
		t.Run(name, func(t *testing.T) {
			sql := func(args ...string) string {
				t.Helper()
				stdout, stderr, code := command(t, "", append(append([]string{"sql"}, args...), place...)...)
				if code != cliutil.ExitOK {
					t.Fatalf("sql %q: exit code %d: %s", args, code, stderr)
				}
				return stdout + stderr
			}
			if got := sql("CREATE TABLE trades AS SELECT range AS id, range / 2 AS price FROM range(10)", "--bucket", "NYSE"); got != "trades: CREATE TABLE changed 10 rows, version 1\n" {
				t.Errorf("CREATE TABLE printed %q", got)
			}
			for range 2 {
				got := sql(`INSERT INTO "NYSE".trades VALUES (10, 5), (11, 6)`, "--id", "once", "--json")
				if !strings.HasPrefix(got, `{"rows":2,"version":`) || !strings.HasSuffix(got, `"verb":"INSERT","bucket":"NYSE","table":"trades"}`+"\n") {
					t.Errorf("INSERT with --json printed %q", got)
				}
			}
			if got := sql(`DELETE FROM "NYSE".trades WHERE price >= 5`); !strings.HasPrefix(got, "trades: DELETE changed 2 rows, version ") {
				t.Errorf("DELETE printed %q", got)
			}
			if got := sql("SELECT count(*) AS n FROM trades", "--bucket", "NYSE"); got != "n\n10\n" {
				t.Errorf("after the changes, SELECT printed %q, want 10 rows", got)
			}
			for flag, statement := range map[string]string{
				"--id=x": "SELECT 1", "--json": "SELECT 1", "--since=1": "DELETE FROM trades", "--since-snapshot=s": "DELETE FROM trades", "--version=1": "DELETE FROM trades", "--snapshot=s": "DELETE FROM trades",
				"--format=csv": "DELETE FROM trades", "--output=x.csv": "DELETE FROM trades", "--force": "DELETE FROM trades",
			} {
				_, stderr, code := command(t, "", append([]string{"sql", statement, flag}, place...)...)
				if code != cliutil.ExitUsage || !strings.Contains(stderr, "applies only to") {
					t.Errorf("%s %s: exit code %d, %s; want a usage error", statement, flag, code, stderr)
				}
			}
		})
	}
}
