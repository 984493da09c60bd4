package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/duck"
)

// eachFiles writes the files left.csv, right.jsonl and more/rows.csv to a new directory, which becomes the current one.
func eachFiles(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"left.csv":      "sym,n\nA,1\nB,2\n,3\nA,4\n",
		"right.jsonl":   `{"symbol":"A","name":"Alpha"}` + "\n" + `{"symbol":"C","name":"Gamma"}` + "\n",
		"more/rows.csv": "n,sym\n5,B\n",
		"twice.csv":     "sym,n,N\nA,1,2\n",
	} {
		must.Do(t, os.MkdirAll(filepath.Dir(name), 0o777))
		must.Do(t, os.WriteFile(name, []byte(text), 0o666))
	}
}

func TestEach(t *testing.T) {
	eachFiles(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--by", "sym", "--sort-by", "sym", "--memory", "128MiB", "SELECT sym, list(n ORDER BY n) AS n, count(*) AS c FROM rows GROUP BY sym", "rows=left.csv", "rows=more"}, "sym,n,c\n,[3],1\nA,\"[1,4]\",2\nB,\"[2,5]\",2\n"},
		{[]string{"--by", "l=sym", "--by", "r=symbol", "--sort-by", "n", "--parts", "3", "SELECT l.n, r.name FROM l LEFT JOIN r ON sym = symbol", "l=left.csv", "r=right.jsonl"}, "n,name\n1,Alpha\n2,\n3,\n4,Alpha\n"},
		{[]string{"--by", "sym", "--by", "r=symbol", "SELECT name, n FROM l JOIN r ON sym = symbol WHERE n > 1", "l=left.csv", "r=right.jsonl"}, "name,n\nAlpha,4\n"},
		{[]string{"--sort-by", "n", "SELECT l.n, r.name FROM l LEFT JOIN r ON sym = symbol", "l=left.csv", "r=right.jsonl"}, "n,name\n1,Alpha\n2,\n3,\n4,Alpha\n"},
		{[]string{"--by", "sym", "--parts", "1", "--trust", "SELECT count(*) AS c FROM rows", "rows=left.csv"}, "c\n4\n"},
	} {
		wantOutput(t, c.want, append([]string{"each"}, c.args...)...)
	}
	if _, message, _ := command(t, "", "each", "SELECT sym, count(*) FROM rows GROUP BY sym", "rows=left.csv"); message != "rows: key sym, from the statement\n" {
		t.Errorf("without --by: %q", message)
	}
	if got := mustRun(t, "sym,n\nA,1\n", "each", "--by", "sym", "--from", "csv", "SELECT * FROM rows", "rows=-"); got != "sym,n\nA,1\n" {
		t.Errorf("standard input: %q", got)
	}
}

func TestEachOutput(t *testing.T) {
	eachFiles(t)
	const sql = "SELECT sym, sum(n) AS n FROM rows GROUP BY sym"
	var report struct {
		Read    map[string]int `json:"rows_read"`
		Written int            `json:"rows_written"`
		Parts   int            `json:"parts"`
	}
	out := mustRun(t, "", "each", "--by", "sym", "--json", "--parts", "9", "-o", "out.parquet", sql, "rows=left.csv")
	must.Do(t, json.Unmarshal([]byte(out), &report))
	if report.Read["rows"] != 4 || report.Written != 3 || report.Parts < 1 || report.Parts > 3 {
		t.Errorf("--json: %s", out)
	}
	_, stderr, code := command(t, "", "each", "--by", "sym", "--parts", "9", "-o", "parts/", "--to-format", "csv", sql, "rows=left.csv")
	files, lines := filesIn(t, "parts"), 0
	for _, text := range files {
		lines += strings.Count(text, "\n") - 1
	}
	if code != 0 || !strings.HasPrefix(stderr, "4 rows of rows read, 3 rows written, ") || lines != 3 || files["part-00001.csv"] == "" {
		t.Errorf("-o DIR/: exit code %d, %s, files %q", code, stderr, files)
	}
	_, stderr, code = command(t, "", "each", "--by", "sym", "-o", "parts/", sql, "rows=left.csv")
	if code != cliutil.ExitFailed || !strings.Contains(stderr, "the directory is not empty") {
		t.Errorf("a directory with files: exit code %d, %s", code, stderr)
	}
	mustRun(t, "", "each", "--by", "l=sym", "--by", "r=symbol", "-o", "each/", "--parts", "9", "--to-format", "jsonl", "l=left.csv", "r=right.jsonl")
	files, lines = filesIn(t, "each"), 0
	for name, text := range files {
		lines += strings.Count(text, "\n")
		if strings.Contains(text, `"name":"Alpha"`) && !strings.Contains(files[filepath.ToSlash(filepath.Join(filepath.Dir(name), "l.jsonl"))], `"sym":"A","n":1`) {
			t.Errorf("%s has key A, but not the file of l beside it: %q", name, files)
		}
	}
	if len(files)%2 != 0 || lines != 6 {
		t.Errorf("parts without a statement: %d lines in %q, want 6 in a file of each input for each part", lines, files)
	}
}

func TestEachExplain(t *testing.T) {
	eachFiles(t)
	const sql = "SELECT sym, count(*) AS c FROM rows GROUP BY sym"
	text := mustRun(t, "", "each", "--by", "sym", "--explain", "--parts", "7", sql, "rows=left.csv")
	if !strings.HasPrefix(text, "7 parts; DuckDB has ") || !strings.HasSuffix(text, "\nrows: key sym; columns sym\n"+sql+"\n") {
		t.Errorf("--explain: %s", text)
	}
	var plan duck.EachPlan
	must.Do(t, json.Unmarshal([]byte(mustRun(t, "", "each", "--by", "sym", "--explain", "--json", "SELECT * FROM rows", "rows=left.csv")), &plan))
	if plan.Memory == 0 || plan.PartBytes == 0 || len(plan.Inputs) != 1 || strings.Join(plan.Inputs[0].Columns, ",") != "sym,n" {
		t.Errorf("--explain --json: %+v", plan)
	}
}

func TestEachRefuses(t *testing.T) {
	eachFiles(t)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--by", "sym", "SELECT n FROM rows ORDER BY n", "rows=left.csv"}, cliutil.ExitFailed, "--trust"},
		{[]string{"--by", "sym", "SELECT nothing FROM rows", "rows=left.csv"}, cliutil.ExitFailed, "nothing"},
		{[]string{"--by", "missing", "SELECT * FROM rows", "rows=left.csv"}, cliutil.ExitFailed, "missing"},
		{[]string{"--by", "n", "SELECT * FROM rows JOIN r ON n = symbol", "rows=left.csv", "r=right.jsonl"}, cliutil.ExitFailed, `input "r": column "n": the table has no such column, only ["symbol" "name"]`},
		{[]string{"--trust", "SELECT * FROM rows", "rows=left.csv"}, cliutil.ExitUsage, "--by is required"},
		{[]string{"SELECT count(*) FROM rows", "rows=left.csv"}, cliutil.ExitFailed, "no key is given"},
		{[]string{"--by", "sym", "SELECT * FROM rows"}, cliutil.ExitUsage, "NAME=FILE"},
		{[]string{"--by", "sym", "SELECT * FROM rows", "left.csv"}, cliutil.ExitUsage, "rows=left.csv"},
		{[]string{"--by", "sym", "rows=left.csv"}, cliutil.ExitUsage, "-o DIR/"},
		{[]string{"--by", "l=sym", "--by", "r=symbol,name", "SELECT * FROM l", "l=left.csv", "r=right.jsonl"}, cliutil.ExitUsage, "1 columns of input l, but 2 of input r"},
		{[]string{"--by", "sym", "--parts", "-1", "SELECT * FROM rows", "rows=left.csv"}, cliutil.ExitUsage, "--parts"},
		{[]string{"--by", "sym", "--json", "SELECT * FROM rows", "rows=left.csv"}, cliutil.ExitUsage, "--json needs -o"},
		{[]string{"--by", "sym", "--by", "n", "SELECT * FROM rows", "rows=left.csv"}, cliutil.ExitUsage, "--by names columns twice"},
		{[]string{"--by", "rows=sym", "--by", "rows=n", "SELECT * FROM rows", "rows=left.csv"}, cliutil.ExitUsage, "input rows twice"},
		{[]string{"--by", "sym", "SELECT * FROM rows", "rows=twice.csv"}, cliutil.ExitFailed, `columns "n" and "N"`},
		{[]string{"--by", "sym", "-o", "left.csv", "SELECT nothing FROM rows", "rows=left.csv"}, cliutil.ExitFailed, "use --force"},
		{[]string{"--by", "sym", "--force", "-o", "out/", "SELECT * FROM rows", "rows=left.csv"}, cliutil.ExitUsage, "--force"},
		{[]string{"--by", "sym", "--sort-by", "n", "-o", "out/", "SELECT * FROM rows", "rows=left.csv"}, cliutil.ExitUsage, "slash"},
		{[]string{"--by", "sym", "--sort-by", "n", "--memory", "64MiB", "SELECT * FROM rows", "rows=left.csv"}, cliutil.ExitUsage, "128MiB"},
		{[]string{"--by", "sym", "SELECT * FROM rows", "rows=none.csv"}, cliutil.ExitFailed, "none.csv"},
		{[]string{"--by", "sym", "SELECT * FROM rows", "rows=more/*.csv"}, cliutil.ExitFailed, "name a directory or each file"},
		{[]string{"--by", "sym", "--explain", "--sort-by", "typo", "SELECT * FROM rows", "rows=left.csv"}, cliutil.ExitFailed, "typo"},
		{[]string{"--by", "rows=sym", "--by", "row=n", "SELECT * FROM rows", "rows=left.csv"}, cliutil.ExitUsage, "--by row=n applies to no input"},
		{[]string{"--by", "sym", "--sort-by", "typo", "SELECT * FROM rows WHERE error('read') IS NULL", "rows=left.csv"}, cliutil.ExitFailed, "typo"},
	} {
		_, stderr, code := command(t, "", append([]string{"each"}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%q: exit code %d, %s, want %d and %q", c.args, code, stderr, c.code, c.want)
		}
	}
}
