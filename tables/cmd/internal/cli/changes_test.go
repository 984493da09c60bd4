package cli

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/command/cliutil"
)

func TestChanges(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tables")
	mustRun(t, "", "put", "trades", writeTemp(t, "trades.csv", "id,price\n1,1.5\n2,2.5\n"), "--dir", dir)
	changes := func(args ...string) (rows []string, stderr string) {
		t.Helper()
		out, stderr, code := command(t, "", append([]string{"changes", "trades", "--dir", dir}, args...)...)
		if code != 0 {
			t.Fatalf("changes %q: exit code %d, stderr %s", args, code, stderr)
		}
		rows = strings.Split(strings.TrimSpace(out), "\n")
		slices.Sort(rows[1:])
		return rows, stderr
	}
	if rows, stderr := changes(); strings.Join(rows, " ") != "id,price,_change 1,1.5,insert 2,2.5,insert" || stderr != "The changes lead to version 1.\n" {
		t.Errorf("all changes: got %q, stderr %q", rows, stderr)
	}
	mustRun(t, "", "snapshot", "create", "s", "--dir", dir)
	mustRun(t, "", "upsert", "trades", writeTemp(t, "more.csv", "id,price\n2,3.5\n3,4.5\n"), "--key", "id", "--dir", dir)
	want := "id,price,_change 2,2.5,update_before 2,3.5,update_after 3,4.5,insert"
	for _, since := range [][]string{{"--since", "1"}, {"--since-snapshot", "s"}} {
		rows, stderr := changes(append(since, "--key", "id", "--json")...)
		if strings.Join(rows, " ") != want || !strings.Contains(stderr, `"version":2`) || !strings.Contains(stderr, `"uuid":"`) {
			t.Errorf("changes %q: got %q, stderr %q; want rows %q and version 2", since, rows, stderr, want)
		}
	}
	if rows, _ := changes("--since", time.Now().Format(time.RFC3339Nano)); len(rows) != 1 {
		t.Errorf("changes since the current time: got %q, want no rows", rows)
	}
	sql := `SELECT count(*) AS n FROM changes."".trades`
	if got := mustRun(t, "", "sql", strings.ReplaceAll(sql, `""`, `"default"`), "--since", "1", "--dir", dir); got != "n\n3\n" {
		t.Errorf("sql: got %q, want three changes", got)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--since", "x"}, cliutil.ExitUsage, "neither a version nor a time"},
		{[]string{"--since", ""}, cliutil.ExitUsage, "empty"},
		{[]string{"--since-snapshot", ""}, cliutil.ExitUsage, "empty"},
		{[]string{"--since", "99"}, cliutil.ExitFailed, "start again"},
		{[]string{"--since", "2999-01-01"}, cliutil.ExitFailed, "nearest exact moments"},
		{[]string{"--since", "1", "--uuid", "x"}, cliutil.ExitFailed, "start again"},
		{[]string{"--since", "1", "--since-snapshot", "s"}, cliutil.ExitFailed, "since-snapshot"},
	} {
		if _, stderr, code := command(t, "", append([]string{"changes", "trades", "--dir", dir}, c.args...)...); code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("changes %q: exit code %d, stderr %s; want code %d and %q", c.args, code, stderr, c.code, c.want)
		}
	}
}
