package cli

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
)

const (
	raggedText   = "k,x,y\n1,\"a,b\",5\n2\n3,c\n\n4,d,6,7,8\n"
	raggedFilled = "k,x,y\n1,\"a,b\",5\n2,,\n3,c,\n4,d,6\n"
	raggedReport = "partd-tables: 2 short records filled with empty fields, 1 long record cut\n"
)

// TestRagged checks that each command that reads CSV fills short records, and cuts longer ones.
func TestRagged(t *testing.T) {
	dir := t.TempDir()
	file := writeTemp(t, "a.csv", raggedText)
	t.Setenv("PARTD_TABLES_DIR", filepath.Join(dir, "tables"))
	out := filepath.Join(dir, "out.csv")
	for _, test := range []struct {
		args   []string
		report string // after raggedReport
	}{
		{[]string{"put", "--ragged=cut", "t", file}, "t: 4 rows put, version 1\n"},
		{[]string{"convert", "--ragged=cut", "-o", out, "--force", file}, ""},
		{[]string{"sort", "--by", "k", "--ragged=cut", "-o", out, "--force", file}, "4 rows read, 4 written\n"},
		{[]string{"split", "--by", "k", "--ragged=cut", "--to-format", "csv", "-o", filepath.Join(dir, "parts"), file}, "4 rows read and written, 4 files\n"},
		{[]string{"each", "--by", "k", "--ragged=cut", "--sort-by", "k", "-o", out, "--force", "SELECT * FROM rows", "rows=" + file}, "4 rows of rows read, 4 rows written, 1 part\n"},
	} {
		stdout, stderr, code := command(t, "", test.args...)
		if code != 0 || stdout != "" || stderr != raggedReport+test.report {
			t.Errorf("%q: exit code %d, output %q, %q", test.args, code, stdout, stderr)
		}
		var got string
		switch test.args[0] {
		case "put":
			got = mustRun(t, "", "get", "t")
		case "split":
			got = "k,x,y\n"
			for _, text := range []string{"1", "2", "3", "4"} {
				part := must.Get(os.ReadFile(filepath.Join(dir, "parts", text+".csv")))(t)
				got += strings.TrimPrefix(string(part), "k,x,y\n")
			}
		default:
			got = string(must.Get(os.ReadFile(out))(t))
		}
		if got != raggedFilled {
			t.Errorf("%q: got %q, want %q", test.args, got, raggedFilled)
		}
	}
	if got := mustRun(t, raggedText, "convert", "--ragged=cut", "--where", "y is null", "--columns", "y,k", "--from", "csv", "-"); got != "y,k\n,2\n,3\n" {
		t.Errorf("convert --where --columns: got %q", got)
	}
	if got := mustRun(t, "a\tb\n\"1\n2\t3\t4\n", "convert", "--ragged=cut", "--from", "tsv", "--to-format", "jsonl", "-"); got != "{\"a\":\"\\\"1\",\"b\":null}\n{\"a\":\"2\",\"b\":3}\n" {
		t.Errorf("convert of TSV: got %q", got)
	}
	wantFailure(t, cliutil.ExitFailed, "a.csv, line 6: the record has 5 fields, but the header has 3", "convert", "--ragged", file)
	wantFailure(t, cliutil.ExitUsage, "use --ragged to fill short records, or --ragged=cut", "sort", "--by", "k", "--ragged=pad", file)
}

// TestNull checks that the texts of --null are null, unless they are quoted, and that get writes nulls as such a text.
func TestNull(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PARTD_TABLES_DIR", filepath.Join(dir, "tables"))
	file, out := writeTemp(t, "a.csv", "k,n,c\n1,NA,x\n2,-,\"NA\"\n\\N,3,NA\n4,,\"\"\n"), filepath.Join(dir, "out.jsonl")
	nulls := []string{"--null", "NA", "--null", "-", "--null", `\N`}
	rows := []string{`{"k":null,"n":3,"c":null}`, `{"k":1,"n":null,"c":"x"}`, `{"k":2,"n":null,"c":"NA"}`, `{"k":4,"n":null,"c":""}`}
	want := strings.Join(rows, "\n") + "\n"
	for _, args := range [][]string{
		{"convert", "-o", out, "--force", file},
		{"sort", "--by", "k", "-o", out, "--force", file},
		{"each", "--by", "k", "--sort-by", "k", "-o", out, "--force", "SELECT * FROM rows", "rows=" + file},
	} {
		mustRun(t, "", append(args, nulls...)...)
		got := string(must.Get(os.ReadFile(out))(t))
		if args[0] == "convert" {
			got = mustRun(t, got, "sort", "--by", "k", "--from", "jsonl", "--to-format", "jsonl", "-")
		}
		if got != want {
			t.Errorf("%q: got %s, want\n%s", args, got, want)
		}
	}
	parts := filepath.Join(dir, "parts")
	mustRun(t, "", append([]string{"split", "--by", "c", "--to-format", "jsonl", "-o", parts, file}, nulls...)...)
	if got := filesIn(t, parts); got["%null.jsonl"] != rows[0]+"\n" || got["NA.jsonl"] != rows[2]+"\n" || got["%.jsonl"] != rows[3]+"\n" {
		t.Errorf("split: got %q", got)
	}
	mustRun(t, "", append([]string{"put", "t", file}, nulls...)...)
	written := mustRun(t, "", "get", "t", "--null", "NA")
	if want := "k,n,c\n1,NA,x\n2,NA,\"NA\"\nNA,3,NA\n4,NA,\"\"\n"; written != want {
		t.Errorf("get --null: got %q, want %q", written, want)
	}
	if got := mustRun(t, written, "sort", "--by", "k", "--null", "NA", "--from", "csv", "--to-format", "jsonl", "-"); got != want {
		t.Errorf("rows of get --null: got %s, want\n%s", got, want)
	}
	// Without --null, the columns are text; other formats are unaffected.
	wantOutput(t, "{\"k\":\"1\",\"n\":\"NA\",\"c\":\"x\"}\n", "convert", "--where", "n = 'NA'", "--to-format", "jsonl", file)
	if got := mustRun(t, "{\"c\":\"NA\"}\n", "convert", "--null", "NA", "--from", "jsonl", "--to-format", "csv", "-"); got != "c\nNA\n" {
		t.Errorf("convert of JSON lines: got %q", got)
	}
	for _, args := range [][]string{{"convert", "--null", "a\nb", file}, {"get", "t", "--null", "a,b"}, {"get", "t", "--null", `"NA"`}} {
		wantFailure(t, cliutil.ExitUsage, "an unquoted field cannot contain", args...)
	}
}

// TestSep checks the separator of each command that reads CSV.
func TestSep(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PARTD_TABLES_DIR", filepath.Join(dir, "tables"))
	file, out, want := writeTemp(t, "a.csv", "k\ta\n1\tx;y,z\n"), filepath.Join(dir, "out.csv"), "k,a\n1,\"x;y,z\"\n"
	for _, args := range [][]string{
		{"convert", "-o", out, "--force", file},
		{"sort", "--by", "k", "-o", out, "--force", file},
		{"each", "--by", "k", "-o", out, "--force", "SELECT * FROM rows", "rows=" + file},
	} {
		mustRun(t, "", append(args, "--sep", `\t`)...)
		if got := string(must.Get(os.ReadFile(out))(t)); got != want {
			t.Errorf("%q: got %q, want %q", args, got, want)
		}
	}
	mustRun(t, "", "split", "--by", "k", "--sep", `\t`, "--to-format", "csv", "-o", filepath.Join(dir, "parts"), file)
	if got := filesIn(t, filepath.Join(dir, "parts")); got["1.csv"] != want {
		t.Errorf("split: got %q", got)
	}
	wantFailure(t, cliutil.ExitUsage, `--sep: "\\" has a backslash: write \t for a tab`, "put", "--sep", `\`, "t", file)
	wantFailure(t, cliutil.ExitUsage, "unknown flag --no-header", "put", "--no-header", "t", file)
}

// TestEncoding checks UTF-16 with a byte order mark, which needs no flag, and the encodings of --encoding, also in
// compressed files and from a pipe.
func TestEncoding(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PARTD_TABLES_DIR", filepath.Join(dir, "tables"))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write([]byte("k,a\n1,caf\xe9\n"))
	must.Do(t, errors.Join(err, z.Close()))
	wide := func(text string) string {
		return strings.Join(strings.Split(text, ""), "\x00") + "\x00"
	}
	const want = `{"k":1,"a":"café"}` + "\n"
	for name, c := range map[string]struct{ content, encoding string }{
		"mark.csv": {"\xff\xfe" + wide("k,a\n1,caf") + "\xe9\x00\n\x00", ""}, "wide.tsv": {wide("k\ta\n1\tcaf") + "\xe9\x00", "utf-16le"},
		"latin.csv.gz": {packed.String(), "latin-1"}, "windows.jsonl": {"{\"k\":1,\"a\":\"caf\xe9\"}", "windows-1252"},
	} {
		file, flags := writeTemp(t, name, c.content), []string{}
		if c.encoding != "" {
			flags = []string{"--encoding", c.encoding}
		}
		for _, args := range [][]string{{"convert", "--to-format", "jsonl", file}, {"sort", "--by", "k", "--to-format", "jsonl", file, file}} {
			if got := mustRun(t, "", append(args, flags...)...); got != strings.Repeat(want, strings.Count(strings.Join(args, " "), file)) {
				t.Errorf("%q of %s: got %q", args, name, got)
			}
		}
		mustRun(t, "", append([]string{"put", name, file}, flags...)...)
		wantOutput(t, want, "get", name, "--format", "jsonl")
		format := strings.TrimPrefix(filepath.Ext(strings.TrimSuffix(name, ".gz")), ".")
		if got := mustRun(t, c.content, append([]string{"convert", "--from", format, "--to-format", "jsonl", "-"}, flags...)...); got != want {
			t.Errorf("convert of %s from a pipe: got %q", name, got)
		}
	}
	bad := writeTemp(t, "bad.csv", "k,a\n1,x\n2,\x81\n")
	wantFailure(t, cliutil.ExitFailed, `bad.csv, line 3: column "a": the text is not valid windows-1252`, "put", "--encoding", "windows-1252", "t", bad)
	wantFailure(t, cliutil.ExitFailed, "bad.csv: the file has no byte order mark: set the encoding to utf-16le or utf-16be", "convert", "--encoding", "utf-16", bad)
	wantFailure(t, cliutil.ExitUsage, `unknown encoding "ascii": use one of utf-8, `, "convert", "--encoding", "ascii", bad)
}

// TestDecimal checks numbers with a decimal comma and separators of thousands.
func TestDecimal(t *testing.T) {
	t.Setenv("PARTD_TABLES_DIR", filepath.Join(t.TempDir(), "tables"))
	file := writeTemp(t, "a.csv", "n;f;i;t;d;p\n\"-1,5\";1.234,25;1.000;1,2,3;2026-01-31;1.5\n,5;7;2.000.000;4,5;2026-02-01;2,5\n")
	mustRun(t, "", "put", "t", file, "--sep", ";", "--decimal", ",", "--thousands", ".")
	want := "{\"n\":-1.5,\"f\":1234.25,\"i\":1000,\"t\":\"1,2,3\",\"d\":\"2026-01-31\",\"p\":\"1.5\"}\n" +
		"{\"n\":0.5,\"f\":7,\"i\":2000000,\"t\":\"4,5\",\"d\":\"2026-02-01\",\"p\":\"2,5\"}\n"
	wantOutput(t, want, "get", "t", "--format", "jsonl")
	// An existing column of numbers refuses other numbers, and one of text keeps them as they are.
	mustRun(t, "n;t\n\"1.000,5\";1,5\n", "put", "t", "-", "--format", "csv", "--mode", "append", "--sep", ";", "--decimal", ",", "--thousands", ".")
	wantOutput(t, "n,t\n1000.5,\"1,5\"\n", "get", "t", "--columns", "n,t", "--where", "n > 1000")
	_, stderr, code := command(t, "n\n1.5\n", "put", "t", "-", "--format", "csv", "--mode", "append", "--decimal", ",")
	if code != cliutil.ExitFailed || !strings.Contains(stderr, `standard input, line 2: column "n": "1.5 (wrong decimal mark)" is not a valid float64`) {
		t.Errorf("append with a point: exit code %d, %q", code, stderr)
	}
	tsv := "k\tn\n1\t2,5\n2\t-1.000\n"
	for _, args := range [][]string{{"convert"}, {"sort", "--by", "k"}} {
		args = append(args, "--from", "tsv", "--to-format", "jsonl", "--decimal", ",", "--thousands", ".", "-")
		if got := mustRun(t, tsv, args...); got != "{\"k\":1,\"n\":2.5}\n{\"k\":2,\"n\":-1000}\n" {
			t.Errorf("%q: got %q", args, got)
		}
	}
	wantFailure(t, cliutil.ExitUsage, `--decimal ";": use a comma or a point`, "convert", "--decimal", ";", file)
}

// TestVariablesOfOtherFormats checks that environment variables for text do not make commands fail that work with other
// formats, while such flags on the command line do.
func TestVariablesOfOtherFormats(t *testing.T) {
	dir := t.TempDir()
	file, parquet := writeTemp(t, "a.csv", "k;v\n1;2\n"), filepath.Join(dir, "a.parquet")
	t.Setenv("PARTD_TABLES_DIR", filepath.Join(dir, "tables"))
	t.Setenv("PARTD_TABLES_SEP", ";")
	t.Setenv("PARTD_TABLES_NULL", "NA")
	mustRun(t, "", "put", "t", file)
	mustRun(t, "", "get", "t", "-o", parquet)
	if got := mustRun(t, "", "sort", "--by", "k", "--to-format", "csv", parquet); got != "k,v\n1,2\n" {
		t.Errorf("sort of a Parquet file wrote %q", got)
	}
	wantFailure(t, 2, "--null does not apply to the format parquet", "get", "t", "--null", "NA", "-o", parquet, "--force")
	wantFailure(t, 1, "separator does not apply to the format parquet", "sort", "--by", "k", "--sep", ";", parquet)
}
