package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cliutil"
)

func TestTransformCommands(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tables")
	run := func(args ...string) string { t.Helper(); return mustRun(t, "", append(args, "--dir", dir)...) }
	run("put", "trades", writeTemp(t, "trades.csv", "at,sym,price\n2026-01-01 00:00:01,A,1\n2026-01-01 00:00:09,A,3\n2026-01-01 00:00:25,B,\n2026-01-01 00:00:25,A,5\n"))
	run("resample", "trades", "mean", "--rule", "10s", "--time", "at", "--func", "mean", "--columns", "price")
	if got, want := run("get", "mean"), "at,price\n2026-01-01T00:00:00,2\n2026-01-01T00:00:10,\n2026-01-01T00:00:20,5\n"; got != want {
		t.Errorf("get mean: got %s, want\n%s", got, want)
	}
	run("resample", "trades", "mean", "--rule", "D", "--time", "at", "--func", "sum,size", "--columns", "price", "--mode", "replace")
	if got, want := run("get", "mean"), "at,price_sum,size\n2026-01-01T00:00:00,9,4\n"; got != want {
		t.Errorf("get mean: got %s, want\n%s", got, want)
	}
	if got, want := run("resample", "trades", "--rule", "10s", "--time", "at", "--func", "mean", "--columns", "price"), "at,price\n2026-01-01T00:00:00,2\n2026-01-01T00:00:10,\n2026-01-01T00:00:20,5\n"; got != want {
		t.Errorf("resample trades without a target: got %s, want\n%s", got, want)
	}
	file := filepath.Join(t.TempDir(), "counts.jsonl")
	run("resample", "trades", "--sql", "SELECT count(*) AS n FROM trades", "-o", file)
	if got, err := os.ReadFile(file); string(got) != "{\"n\":4}\n" {
		t.Errorf("resample -o wrote %q, error %v, want one row with n = 4", got, err)
	}
	if got := run("list"); strings.Count(got, "\n") != 3 {
		t.Errorf("list printed\n%s\nwant three lines", got)
	}
	run("resample", "trades", "counts", "--sql", "SELECT sym, count(*) AS n FROM trades GROUP BY sym ORDER BY sym", "--target-bucket", "b")
	if got := run("get", "counts", "--bucket", "b"); got != "sym,n\nA,3\nB,1\n" {
		t.Errorf("get counts: got %q, want %q", got, "sym,n\nA,3\nB,1\n")
	}
	run("put", "names", writeTemp(t, "names.csv", "sym,name\nB,Beta\nC,Gamma\n"))
	run("combine", "trades", "names", "joined", "--how", "join", "--on", "sym")
	if got := run("get", "joined"); got != "sym,at,price,name\nB,2026-01-01T00:00:25,,Beta\n" {
		t.Errorf("get joined: got %q, want %q", got, "sym,at,price,name\nB,2026-01-01T00:00:25,,Beta\n")
	}
	run("combine", "names", "names", "twice")
	if got := run("get", "twice"); got != "sym,name\nB,Beta\nC,Gamma\nB,Beta\nC,Gamma\n" {
		t.Errorf("get twice: got %q, want %q", got, "sym,name\nB,Beta\nC,Gamma\nB,Beta\nC,Gamma\n")
	}
	run("clean", "twice", "--keep-first-of", "sym", "--where", "name <> 'Gamma' -- not that one")
	if got := run("get", "twice"); got != "sym,name\nB,Beta\n" {
		t.Errorf("get twice: got %q, want %q", got, "sym,name\nB,Beta\n")
	}
	run("clean", "trades", "good", "--drop-nulls", "price")
	if got := run("sql", "SELECT count(*) AS n FROM good"); got != "n\n3\n" {
		t.Errorf("sql of the cleaned table: got %q, want %q", got, "n\n3\n")
	}
	for _, bad := range []struct {
		args string
		code int
		want string
	}{
		{"resample trades x --rule 10s --time at", cliutil.ExitUsage, "--rule needs --time and --func"},
		{"resample trades --rule 10s --time at", cliutil.ExitUsage, "--rule needs --time and --func"},
		{"resample trades --rule 10s --time at --func size --mode replace", cliutil.ExitUsage, "need a TARGET"},
		{"resample trades --rule 10s --time at --func size --target-bucket b", cliutil.ExitUsage, "need a TARGET"},
		{"resample trades --rule 10s --time at --func size --format xml", cliutil.ExitUsage, "xml"},
		{"resample trades --rule 10s --time at --func avg", cliutil.ExitFailed, `unknown function "avg"`},
		{"resample trades x --rule 10s --time at --func size --format csv", cliutil.ExitUsage, "cannot be combined with a TARGET"},
		{"resample trades x --rule 10s --time at --func size -o x.csv", cliutil.ExitUsage, "cannot be combined with a TARGET"},
		{"resample trades x", cliutil.ExitUsage, "use either --sql, or --rule"},
		{"resample trades x --rule 10s --time at --func mean", cliutil.ExitFailed, `column "sym": it has type`},
		{"resample trades x --rule 10s --time at --func avg", cliutil.ExitFailed, `unknown function "avg"`},
		{"resample trades x --rule 10x --time at --func size", cliutil.ExitFailed, `unknown unit x`},
		{"resample trades x --rule 1s --time sym --func size", cliutil.ExitFailed, `column "sym": it has type`},
		{"resample none x --rule 1s --time at --func size", cliutil.ExitFailed, "does not exist"},
		{"combine trades names x --how beside", cliutil.ExitFailed, "union or join"},
		{"combine trades x", cliutil.ExitUsage, "two or more SOURCEs"},
		{"clean trades", cliutil.ExitFailed, "nothing to remove"},
		{"clean trades --where x --mode replace", cliutil.ExitUsage, "need a TARGET"},
		{"clean trades --where price>", cliutil.ExitFailed, "Parser error"},
		{"clean trades --drop-nulls none", cliutil.ExitFailed, "no such column"},
	} {
		_, stderr, code := command(t, "", append(strings.Fields(bad.args), "--dir", dir)...)
		if code != bad.code || !strings.Contains(stderr, bad.want) {
			t.Errorf("%s: got exit code %d and an unexpected message: %s", bad.args, code, stderr)
		}
	}
}
