package cli

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestSortMerge checks that files of several formats are merged in the types that they have together, and that the error
// for a file that is not sorted names the file and the row.
func TestSortMerge(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		must.Do(t, os.WriteFile(path, []byte(text), 0o666))
		return path
	}
	a, b, c := write("a.csv", "k,v\n,0\n2,1\n9,1\n"), write("b.jsonl", "{\"v\":2,\"k\":2}\n{\"v\":2.5,\"k\":10}\n"), write("c.csv", "k,v\n")
	stdout, stderr, code := command(t, "v,k\n3,2\n", "sort", "--by", "k", "--merge", "--from", "csv", "-")
	if stdout != "v,k\n3,2\n" || code != 0 {
		t.Errorf("one file: %q, %q", stdout, stderr)
	}
	parquet := filepath.Join(dir, "d.parquet")
	wantOutput(t, "{\"rows_read\":5,\"rows_written\":5}\n", "sort", "--by", "k", "--merge", "--json", "-o", parquet, a, b, c)
	if got, want := mustRun(t, "", "convert", parquet, "--to-format", "csv"), "k,v\n,0\n2,1\n2,2\n9,1\n10,2.5\n"; got != want {
		t.Errorf("sort --merge: %s, want %s", got, want)
	}
	if got, want := mustRun(t, "", "sort", "--by", "k", "--merge", "--distinct", parquet, a), "k,v\n,0\n2,1\n9,1\n10,2.5\n"; got != want {
		t.Errorf("sort --merge --distinct: %s, want %s", got, want)
	}
	out := filepath.Join(dir, "none.csv")
	_, stderr, code = command(t, "", "sort", "--by", "v,k", "--merge", "-o", out, parquet, b)
	if want := "d.parquet, row 4 comes before the previous row in the order of v,k: it is not sorted; to sort it, leave out --merge\n"; code != cliutil.ExitFailed || !strings.HasSuffix(stderr, want) {
		t.Errorf("a file that is not sorted: exit code %d, %s, want %s", code, stderr, want)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a failed merge has written its output")
	}
}

// TestSplitAgain checks what split does with the files of earlier runs, and that it leaves other files alone.
func TestSplitAgain(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		must.Do(t, os.MkdirAll(filepath.Dir(path), 0o777))
		must.Do(t, os.WriteFile(path, []byte(text), 0o666))
		return path
	}
	a, b := write("a.csv", "k,v\na,1\n,2\n"), write("b.csv", "k,v\n,3\n_c,4\n")
	for _, format := range []string{"csv", "jsonl", "parquet", "arrow"} {
		out := filepath.Join(dir, format)
		split := func(args ...string) string {
			_, stderr, code := command(t, "", append([]string{"split", "--by", "k", "--to-format", format, "-o", out}, args...)...)
			if code == 0 {
				return ""
			}
			return stderr
		}
		rows := func(name string) string {
			return mustRun(t, "", "convert", filepath.Join(out, name+"."+format), "--to-format", "csv")
		}
		mustRun(t, "", "split", "--by", "k", "--to-format", format, "-o", out, a)
		mine := []string{write(format+"/mine.txt", ""), write(format+"/_x."+format, ""), write(format+"/sub/a."+format, "")}
		if got := split("--append", b); got != "" || rows("%null") != "k,v\n,2\n,3\n" || rows("a") != "k,v\na,1\n" || rows("%5Fc") != "k,v\n_c,4\n" {
			t.Errorf("%s: split --append: %s; null has %q", format, got, rows("%null"))
		}
		if got := split("--append", write("other.csv", "k,w\n,3\n")); !strings.Contains(got, "%null."+format) || rows("%null") != "k,v\n,2\n,3\n" {
			t.Errorf("%s: split --append with other columns: %s, null has %q", format, got, rows("%null"))
		}
		if got := split("--force", a); !strings.Contains(got, "%5Fc."+format+": it is a file of another key") || !strings.Contains(got, "use --append to add to the files of earlier runs, or --replace") {
			t.Errorf("%s: split --force: %s", format, got)
		}
		if got := split("--replace", b); got != "" || rows("%null") != "k,v\n,3\n" {
			t.Errorf("%s: split --replace: %s; null has %q", format, got, rows("%null"))
		}
		if _, err := os.Stat(filepath.Join(out, "a."+format)); err == nil {
			t.Errorf("%s: split --replace has kept the file of a key that it does not have", format)
		}
		for _, path := range mine {
			must.Get(os.Stat(path))(t)
		}
	}
	wantFailure(t, cliutil.ExitUsage, "only one of --append, --replace and --force", "split", "--by", "k", "--append", "--force", "-o", dir, a)
}

// TestSplitHiveAgain checks that --append adds files to the layout of Hive, and that --replace removes them.
func TestSplitHiveAgain(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.csv"), filepath.Join(dir, "out")
	must.Do(t, os.WriteFile(in, []byte("k,n,v\na=b,1,x\n,2,y\n"), 0o666))
	run := func(flag, where string, files ...string) {
		t.Helper()
		mustRun(t, where, "split", "--by", "k,n", "--hive", "--to-format", "csv", flag, "-o", out, "--from", "csv", "-")
		got := slices.Sorted(maps.Keys(filesIn(t, out)))
		if !slices.Equal(got, files) {
			t.Errorf("%s: files %q, want %q", flag, got, files)
		}
	}
	first, second, null := "k=a%3Db/n=1/data.csv", "k=a%3Db/n=1/data-2.csv", "k=__HIVE_DEFAULT_PARTITION__/n=2/data.csv"
	all := "k,n,v\na=b,1,x\n,2,y\n"
	run("--append", all, null, first)
	run("--append", "k,n,v\na=b,1,z\n", null, second, first)
	run("--append", "k,n,v\na=b,1,z\n", null, second, "k=a%3Db/n=1/data-3.csv", first)
	mine := []string{"k=a%3Db/n=1/data-02.csv", "k=a%3Db/n=1/mine.csv", "other/data.csv"}
	for _, name := range mine {
		must.Do(t, os.MkdirAll(filepath.Dir(filepath.Join(out, name)), 0o777))
		must.Do(t, os.WriteFile(filepath.Join(out, name), nil, 0o666))
	}
	run("--replace", "k,n,v\nc,1,x\n", mine[0], mine[1], "k=c/n=1/data.csv", mine[2])
	if _, err := os.Stat(filepath.Join(out, "k=__HIVE_DEFAULT_PARTITION__")); err == nil {
		t.Error("split --replace has left an empty directory")
	}
}
