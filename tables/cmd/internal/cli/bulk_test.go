package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// filesIn returns the files in and below dir as a map from their relative path to their text. A directory that does not
// exist has none.
func filesIn(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, path := range tabletest.Paths(t, dir, "") {
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(must.Get(os.ReadFile(path))(t))
	}
	return files
}

func TestSplitAndSort(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	for name, text := range map[string]string{"1.csv": "sym,n,at\nB,2,2026-01-31\n,3,\nA,5,2026-01-30\n", "more/2.csv": "n,at,sym\n1,2026-02-01,A\n", "_SUCCESS": "", ".part/x": ""} {
		must.Do(t, os.MkdirAll(filepath.Dir(filepath.Join(in, name)), 0o777))
		must.Do(t, os.WriteFile(filepath.Join(in, name), []byte(text), 0o666))
	}
	csvFiles := map[string]string{"A.csv": "sym,n,at\nA,5,2026-01-30\nA,1,2026-02-01\n", "B.csv": "sym,n,at\nB,2,2026-01-31\n", "%null.csv": "sym,n,at\n,3,\n"}
	hive := map[string]string{"sym=A/data.jsonl": "{\"n\":5,\"at\":\"2026-01-30\"}\n{\"n\":1,\"at\":\"2026-02-01\"}\n", "sym=B/data.jsonl": "{\"n\":2,\"at\":\"2026-01-31\"}\n", "sym=__HIVE_DEFAULT_PARTITION__/data.jsonl": "{\"n\":3,\"at\":null}\n"}
	for i, format := range []string{"csv", "jsonl", "parquet", "arrow"} {
		whole := filepath.Join(dir, "whole."+format)
		stdout, stderr, code := command(t, "", "sort", "--by", "n", "-o", whole, in)
		if code != 0 || stdout != "" || stderr != "4 rows read, 4 written\n" {
			t.Fatalf("sort: exit code %d, output %q, %q, want the number of rows", code, stdout, stderr)
		}
		if got, want := mustRun(t, "", "convert", whole, "--to-format", "csv"), "sym,n,at\nA,1,2026-02-01\nB,2,2026-01-31\n,3,\nA,5,2026-01-30\n"; got != want {
			t.Errorf("sort --by n to %s: %s, want\n%s", format, got, want)
		}
		text := must.Get(os.ReadFile(whole))(t)
		if got, want := mustRun(t, string(text), "sort", "--by", "sym,n", "--from", format, "-"), "sym,n,at\n,3,\nA,1,2026-02-01\nA,5,2026-01-30\nB,2,2026-01-31\n"; got != want {
			t.Errorf("sort of a pipe with %s: %s, want\n%s", format, got, want)
		}
		if got := mustRun(t, "", "sort", "--by", "n", "--to-format", format, "-o", "-", in); format != "arrow" && got != string(text) {
			t.Errorf("sort -o - --to-format %s differs from the file of sort -o FILE", format)
		}
		target := filepath.Join(out, fmt.Sprint(i), "new")
		if got := mustRun(t, string(text), "split", "--by", "sym", "--json", "--from", format, "--to-format", format, "-o", target, "-"); got != "{\"rows\":4,\"files\":3}\n" {
			t.Errorf("split --json: %s", got)
		}
		for name, want := range map[string]string{"A": "A,1,2026-02-01\nA,5,2026-01-30\n", "B": "B,2,2026-01-31\n", "%null": ",3,\n"} {
			wantOutput(t, "sym,n,at\n"+want, "convert", filepath.Join(target, name+"."+format), "--to-format", "csv")
		}
	}
	distinct := filepath.Join(dir, "whole.csv")
	got := mustRun(t, "", "sort", "--by", "sym", "--distinct", "--json", "--force", "-o", distinct, in)
	if text, want := mustRun(t, "", "convert", distinct, "--to-format", "csv"), "sym,n,at\n,3,\nA,5,2026-01-30\nB,2,2026-01-31\n"; got != "{\"rows_read\":4,\"rows_written\":3}\n" || text != want {
		t.Errorf("sort --distinct --json: %s, %s, want\n%s", got, text, want)
	}
	_, stderr, code := command(t, "", "split", "--by", "sym", "--to-format", "csv", "-o", filepath.Join(out, "csv"), in)
	if got := filesIn(t, filepath.Join(out, "csv")); code != 0 || stderr != "4 rows read and written, 3 files\n" || !equalMaps(got, csvFiles) {
		t.Errorf("split --to-format csv: exit code %d, %s, files %q, want %q", code, stderr, got, csvFiles)
	}
	t.Setenv("PARTD_TABLES_BY", "sym") // each flag can also be set by a variable
	mustRun(t, "", "split", "--hive", "--to", "jsonl", "-o", filepath.Join(out, "hive"), in)
	if got := filesIn(t, filepath.Join(out, "hive")); !equalMaps(got, hive) {
		t.Errorf("split --hive: files %q, want %q", got, hive)
	}
	_, stderr, code = command(t, "", "split", "-o", filepath.Join(out, "csv"), in)
	if want := "the directory is not empty: to write there anyway, use --append to add to the files of earlier runs, --replace to replace all of them, or --force if it has no files of other keys\n"; code != cliutil.ExitFailed || !strings.HasSuffix(stderr, want) || !strings.Contains(stderr, filepath.Join(out, "csv")) {
		t.Errorf("split to a directory with files: exit code %d, %s, want %q", code, stderr, want)
	}
	mustRun(t, "", "split", "--replace", "--to", "csv", "-o", filepath.Join(out, "csv"), filepath.Join(in, "more"))
	csvFiles = map[string]string{"A.csv": "n,at,sym\n1,2026-02-01,A\n"}
	if got := filesIn(t, filepath.Join(out, "csv")); !equalMaps(got, csvFiles) {
		t.Errorf("split --replace: files %q, want %q", got, csvFiles)
	}
}

// TestFormatFlags sets the output format with --to-format, and with the flags that it had before, each also by its
// variable. A flag on the command line wins over any variable.
func TestFormatFlags(t *testing.T) {
	in := writeTemp(t, "in.csv", "a\n1\n")
	for _, args := range [][]string{{"convert", in}, {"sort", "--by", "a", in}, {"split", "--by", "a", in}} {
		former := map[string]string{"convert": "format", "sort": "format", "split": "to"}[args[0]]
		written := func(flags ...string) string {
			if args[0] != "split" {
				return mustRun(t, "", append(args, flags...)...)
			}
			out := filepath.Join(t.TempDir(), "out")
			mustRun(t, "", append(append(args, "-o", out), flags...)...)
			for _, text := range filesIn(t, out) {
				return text
			}
			return ""
		}
		for _, flag := range []string{"to-format", former} {
			variable := env.Variable(flag)
			if got := written("--"+flag, "jsonl"); got != "{\"a\":1}\n" {
				t.Errorf("%q --%s jsonl: %q", args, flag, got)
			}
			t.Setenv(variable, "jsonl")
			if got := written(); got != "{\"a\":1}\n" {
				t.Errorf("%q with %s=jsonl: %q", args, variable, got)
			}
			for _, other := range []string{"to-format", former} {
				if got := written("--"+other, "csv"); got != "a\n1\n" {
					t.Errorf("%q --%s csv with %s=jsonl: %q", args, other, variable, got)
				}
			}
			t.Setenv(variable, "")
		}
		if help := mustRun(t, "", args[0], "--help"); !strings.Contains(help, "--to-format FORMAT") || strings.Contains(help, "--"+former+" ") {
			t.Errorf("%s --help lacks --to-format, or shows --%s:\n%s", args[0], former, help)
		}
	}
}

// TestStandardInputWithFiles reads the standard input, a file, together with others.
func TestStandardInputWithFiles(t *testing.T) {
	first, second := writeTemp(t, "1.csv", "a\n3\n"), writeTemp(t, "2.csv", "a\nx\n")
	for _, files := range [][]string{{first, "-", second}, {"-", first, second}} {
		if got := mustRun(t, "a\n2\n", append([]string{"sort", "--by", "a", "--from", "csv"}, files...)...); got != "a\n2\n3\nx\n" {
			t.Errorf("sort %q: %q", files, got)
		}
	}
	stored := filepath.Join(t.TempDir(), "x.arrow")
	mustRun(t, "", "convert", first, "-o", stored)
	text := must.Get(os.ReadFile(stored))(t)
	for _, files := range [][]string{{stored, "-"}, {"-", stored}} {
		if got := mustRun(t, string(text), append([]string{"sort", "--by", "a", "--from", "arrow"}, files...)...); got != "a\n3\n3\n" {
			t.Errorf("sort %q: %q", files, got)
		}
	}
}

func equalMaps(a, b map[string]string) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// TestBulkRefuses checks the exit codes and messages for wrong usage and for input that cannot be read, and that
// nothing is written.
func TestBulkRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, "in", name)
		must.Do(t, os.MkdirAll(filepath.Dir(path), 0o777))
		must.Do(t, os.WriteFile(path, []byte(text), 0o666))
		return path
	}
	good, bad, empty := write("good.csv", "a,b\n1,x\n"), write("bad.csv", "a,b\n1,x\nz\n"), filepath.Join(dir, "in", "empty")
	write("hive/a=1/x.csv", "b\n1\n")
	must.Do(t, os.Mkdir(empty, 0o777))
	var cut strings.Builder
	cut.WriteString(mustRun(t, "", "convert", good, "--to-format", "arrow"))
	out := filepath.Join(dir, "out", "x")
	for _, c := range []struct {
		args  []string
		code  int
		words string
	}{
		{[]string{"split", "-o", out, good}, cliutil.ExitUsage, "--by is required"},
		{[]string{"split", "--by", "a", good}, cliutil.ExitUsage, "-o is required"},
		{[]string{"split", "--by", "a", "-o", out}, cliutil.ExitUsage, "is missing: partd-tables split"},
		{[]string{"split", "--by", "a", "-o", out, "--to-format", "tsv", good}, cliutil.ExitUsage, `--to-format "tsv": use csv, jsonl, parquet or arrow`},
		{[]string{"split", "--by", "a", "-o", out, "--from", "orc", good}, cliutil.ExitUsage, `--from "orc": use csv`},
		{[]string{"split", "--by", "a", "-o", out, "-"}, cliutil.ExitUsage, "use --from"},
		{[]string{"split", "--by", "a", "-o", out, "--from", "csv", "-", "-"}, cliutil.ExitUsage, "given twice"},
		{[]string{"split", "--by", "a", "-o", out, good, write("x.orc", "")}, cliutil.ExitUsage, "x.orc: the file name does not indicate the format: use --from"},
		{[]string{"split", "--by", "a", "-o", out, "--memory", "1MiB", good}, cliutil.ExitUsage, "use at least 64 MiB"},
		{[]string{"split", "--by", "a,b", "--hive", "-o", out, good}, cliutil.ExitFailed, "no columns are left"},
		{[]string{"split", "--by", "A", "-o", out, good}, cliutil.ExitFailed, `column "A": the table has no such column`},
		{[]string{"split", "--by", "a", "-o", good, good}, cliutil.ExitFailed, "good.csv: it is a file, not a directory"},
		{[]string{"split", "--by", "a", "-o", out, good, filepath.Join(dir, "missing.csv")}, cliutil.ExitFailed, "missing.csv: no such file"},
		{[]string{"split", "--by", "a", "-o", out, good, bad}, cliutil.ExitFailed, "bad.csv, line 3"},
		{[]string{"split", "--by", "a", "-o", out, good, write("other.csv", "a,c\n1,2\n")}, cliutil.ExitFailed, `other.csv: the columns differ from those of ` + good + `: there is no column "b"`},
		{[]string{"split", "--by", "a", "-o", out, empty}, cliutil.ExitFailed, "empty: the directory contains no files"},
		{[]string{"split", "--by", "b", "-o", out, filepath.Join(dir, "in", "hive")}, cliutil.ExitFailed, "a=1: columns in directory names are not read"},
		{[]string{"split", "--by", "a", "-o", out, write("cut.arrows", cut.String()[:cut.Len()-8])}, cliutil.ExitFailed, "cut.arrows: the file is incomplete"},
		{[]string{"sort", "--by", "a", "-o", out + ".orc", good}, cliutil.ExitUsage, "set --to-format to csv, jsonl, parquet, arrow or table"},
		{[]string{"sort", "--by", "a", "--to-format", "tsv", good}, cliutil.ExitUsage, `--to-format "tsv": use csv`},
		{[]string{"convert", "-o", filepath.Join(dir, "x.orc"), good}, cliutil.ExitUsage, "set --to-format to csv"},
		{[]string{"convert", "--from", "orc", good}, cliutil.ExitUsage, `--from "orc": use csv`},
		{[]string{"convert", "--columns", "a,c", good}, cliutil.ExitFailed, `column "c": the table has no such column`},
		{[]string{"convert", "--where", "c = 1", good}, cliutil.ExitFailed, `"c"; the columns are "a", "b"`},
		{[]string{"convert", "--where", "a > 0 & b = 'x'", good}, cliutil.ExitUsage, "--where: filter: position 7: unexpected '&': write and"},
		{[]string{"sort", "--by", "a", "--json", good}, cliutil.ExitUsage, "--json needs -o"},
		{[]string{"sort", "--by", "a", "-o", good, good}, cliutil.ExitFailed, "use --force"},
		{[]string{"sort", "--by", "a", "-o", filepath.Join(dir, "sorted.csv"), good, bad}, cliutil.ExitFailed, "partd-tables: " + bad + ", line 3"},
	} {
		stdout, stderr, code := command(t, "", c.args...)
		if code != c.code || !strings.Contains(stderr, c.words) || stdout != "" || strings.Contains(stderr, "bulk:") {
			t.Errorf("%q: exit code %d, %s, want %d and %q", c.args, code, stderr, c.code, c.words)
		}
		if _, err := os.Stat(filepath.Dir(out)); !os.IsNotExist(err) {
			t.Fatalf("%q: the directory of the output exists: %v", c.args, err)
		}
	}
	for _, format := range []string{"csv", "jsonl", "parquet", "arrow"} {
		nothing := write("nothing."+format, "")
		wantFailure(t, cliutil.ExitFailed, nothing, "split", "--by", "a", "-o", out, nothing)
		header := filepath.Join(dir, "in", "header."+format)
		mustRun(t, "", "convert", write("header.csv", "a,b\n"), "--force", "-o", header)
		if format == "jsonl" {
			continue // a JSON file without rows has no columns
		}
		wantOutput(t, "{\"rows\":0,\"files\":0}\n", "split", "--json", "--by", "a", "-o", filepath.Join(dir, "none"+format), header)
		wantOutput(t, "a,b\n", "sort", "--by", "a", header)
	}
}

// randomRows returns n rows that do not compress. They have a number below keys, and a value of the given size in
// bytes.
func randomRows(n, keys, size int) arrow.RecordBatch {
	rnd := rand.NewChaCha8([32]byte{1})
	columns := arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int32}, {Name: "value", Type: &arrow.FixedSizeBinaryType{ByteWidth: size}}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer b.Release()
	value := make([]byte, size)
	for range n {
		_, _ = rnd.Read(value) // never returns an error
		b.Field(0).(*array.Int32Builder).Append(int32(rnd.Uint64() % uint64(keys)))
		b.Field(1).(*array.FixedSizeBinaryBuilder).Append(value)
	}
	return b.NewRecordBatch()
}

func writeBatch(t testing.TB, path string, b arrow.RecordBatch, n int64) {
	t.Helper()
	f := must.Get(os.Create(path))(t)
	table := array.NewTableFromRecords(b.Schema(), []arrow.RecordBatch{b})
	must.Do(t, pqarrow.WriteTable(table, f, n, parquet.NewWriterProperties(parquet.WithDictionaryDefault(false)), pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema())))
}

// TestBulkDamagedPage checks that the error about a damaged page names the file and the row group, and that nothing is
// written.
func TestBulkDamagedPage(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
	must.Do(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o777))
	in := filepath.Join(dir, "in.parquet")
	writeBatch(t, in, randomRows(3, 1, 10), 1)
	r := must.Get(file.OpenParquetFile(in, false))(t)
	chunk := must.Get(r.MetaData().RowGroup(1).ColumnChunk(0))(t)
	must.Do(t, r.Close())
	f, err := os.OpenFile(in, os.O_RDWR, 0)
	must.Do(t, err)
	_, err = f.WriteAt(slices.Repeat([]byte{0xff}, int(chunk.TotalCompressedSize())), chunk.DataPageOffset())
	must.Do(t, cmp.Or(err, f.Close()))
	for _, args := range [][]string{{"split", "--by", "k", "-o", filepath.Join(dir, "out", "x"), in}, {"sort", "--by", "k", "-o", filepath.Join(dir, "out.arrow"), in}} {
		_, stderr, code := command(t, "", args...)
		if want := "partd-tables: " + in + ", row group 1: "; code != cliutil.ExitFailed || !strings.HasPrefix(stderr, want) {
			t.Errorf("%q: exit code %d, %s, want an error with %q", args, code, stderr, want)
		}
		must.Do(t, os.Remove(filepath.Join(dir, "tmp"))) // fails unless it is empty
		must.Do(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o777))
	}
	if got := filesIn(t, dir); len(got) != 1 {
		t.Errorf("after the errors, the directory has %d files, want only the input", len(got))
	}
}

// TestBulkManyFiles reads 10,000 files, of which one is open at a time.
func TestBulkManyFiles(t *testing.T) {
	dir := t.TempDir()
	n := procs.Number(t, "PARTD_BULK_FILES", 10_000)
	for i := range n {
		must.Do(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d.csv", i)), fmt.Appendf(nil, "k,n\n%d,%d\n", i%3, i), 0o666))
	}
	out := filepath.Join(t.TempDir(), "out")
	if got, want := mustRun(t, "", "split", "--by", "k", "--to-format", "csv", "--json", "-o", out, dir), fmt.Sprintf("{\"rows\":%d,\"files\":3}\n", n); got != want {
		t.Errorf("split: %s, want %s", got, want)
	}
	for name, text := range filesIn(t, out) {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		for i, line := range lines[1:] {
			k := int(name[0] - '0')
			if want := fmt.Sprintf("%d,%d", k, k+3*i); line != want {
				t.Fatalf("%s, row %d: %s, want %s", name, i, line, want)
			}
		}
	}
}
