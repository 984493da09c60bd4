package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
)

const birdstrikes = "../../../../testdata/birdstrikes.csv"

// command runs the command line with stdin as its standard input.
func command(t testing.TB, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	in, err := os.Open(os.DevNull)
	if stdin != "" {
		path := filepath.Join(t.TempDir(), "stdin")
		must.Do(t, os.WriteFile(path, []byte(stdin), 0o666))
		in, err = os.Open(path)
	}
	must.Do(t, err)
	defer in.Close()
	var out, e bytes.Buffer
	code = runCommand(t.Context(), args, &app{in: in, out: &out, errOut: &e})
	return out.String(), e.String(), code
}

func mustRun(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	out, stderr, code := command(t, stdin, args...)
	if code != cliutil.ExitOK {
		t.Fatalf("%q: exit code %d: %s", args, code, stderr)
	}
	return out
}

// wantOutput runs a command that must succeed, and checks its output.
func wantOutput(t *testing.T, want string, args ...string) {
	t.Helper()
	if out := mustRun(t, "", args...); out != want {
		t.Errorf("%q printed\n%s\nwant\n%s", args, out, want)
	}
}

// wantFailure runs a command that must fail with an exit code and a text in its error.
func wantFailure(t *testing.T, wantCode int, text string, args ...string) {
	t.Helper()
	if _, stderr, code := command(t, "", args...); code != wantCode || !strings.Contains(stderr, text) {
		t.Errorf("%q: exit code %d, stderr %q, want code %d and %q", args, code, stderr, wantCode, text)
	}
}

func writeTemp(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must.Do(t, os.WriteFile(path, []byte(text), 0o666))
	return path
}

func TestPutAndGet(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tables")
	t.Setenv("PARTD_TABLES_DIR", dir)
	mustRun(t, "", "put", "birdstrikes", birdstrikes)
	out := mustRun(t, "", "get", "birdstrikes", "--where", `"Cost Total $" > 3000000 and "Flight Date" < '2001-01-01'`, "--columns", `"Flight Date","Cost Total $"`)
	if want := "Flight Date,Cost Total $\n1995-09-19,3811576\n1998-02-24,7043545\n2000-02-22,3367644\n"; out != want {
		t.Errorf("get birdstrikes: got %s, want\n%s", out, want)
	}
	rows := writeTemp(t, "rows.csv", "sym,price,at\nA,1.5,2026-01-31 12:00:00\nB,2,2026-01-31 12:00:01\n")
	for _, mode := range []string{"error", "append"} {
		mustRun(t, "", "put", "BRK.B", rows, "--mode", mode, "--bucket", "NYSE")
	}
	// Text that looks like a number stays text, because the table's column is text.
	mustRun(t, "sym,price\n007,3\n", "put", "BRK.B", "-", "--format", "csv", "--mode", "append", "--bucket", "NYSE", "--id", "x")
	mustRun(t, "sym,price\n007,3\n", "put", "BRK.B", "-", "--format", "csv", "--mode", "append", "--bucket", "NYSE", "--id", "x")
	if out, want := mustRun(t, "", "get", "BRK.B", "--bucket", "NYSE", "--format", "jsonl", "--where", "price>=2"), `{"sym":"B","price":2,"at":"2026-01-31T12:00:01"}
{"sym":"B","price":2,"at":"2026-01-31T12:00:01"}
{"sym":"007","price":3,"at":null}
`; out != want {
		t.Errorf("get BRK.B --bucket NYSE --format jsonl: got %s, want\n%s", out, want)
	}
	wantOutput(t, "sym  price  at\nA    1.5    2026-01-31T12:00:00\n", "get", "BRK.B", "--bucket", "NYSE", "--limit", "1", "--format", "table")
	for _, format := range []string{"csv", "jsonl", "parquet", "arrow"} {
		file := filepath.Join(t.TempDir(), "rows."+format)
		mustRun(t, "", "get", "BRK.B", "--bucket", "NYSE", "-o", file)
		mustRun(t, "", "put", format, file)
		if a, b := mustRun(t, "", "get", "BRK.B", "--bucket", "NYSE"), mustRun(t, "", "get", format); a != b {
			t.Errorf("rows exported and imported as %s:\n%s, want\n%s", format, b, a)
		}
		wantFailure(t, cliutil.ExitFailed, "to replace it, use --force", "get", format, "-o", file)
		mustRun(t, "", "get", format, "-o", file, "--force")
	}
	mustRun(t, "sym\nonly\n", "put", "BRK.B", "-", "--format", "csv", "--mode", "replace", "--bucket", "NYSE")
	wantOutput(t, "sym\nonly\n", "get", "BRK.B", "--bucket", "NYSE")
	if out := mustRun(t, "", "get", "BRK.B", "--bucket", "NYSE", "--version", "1"); !strings.HasPrefix(out, "sym,price,at\nA,1.5") {
		t.Errorf("get BRK.B --version 1: got %q, want the rows before the replacement", out)
	}
	if out := mustRun(t, "", "buckets"); !slices.Contains([]string{"\"\"\nNYSE\n", "NYSE\n\"\"\n"}, out) {
		t.Errorf("buckets printed\n%s\nwant NYSE and the default bucket, \"\"", out)
	}
	mustRun(t, "", "delete", "csv", "arrow")
	wantFailure(t, cliutil.ExitFailed, "csv", "delete", "jsonl", "csv")
	if out := mustRun(t, "", "list", "[j-p]*"); strings.Count(out, "\n") != 3 || !strings.Contains(out, "jsonl") || !strings.Contains(out, "parquet") {
		t.Errorf("list [j-p]* printed\n%s\nwant three lines with jsonl and parquet", out)
	}
	mustRun(t, "", "fold")
	mustRun(t, "", "compact", "birdstrikes")
	mustRun(t, "", "expire", "--keep", "1", "--older-than", "1ns")
	if out := mustRun(t, "", "get", "parquet", "--limit", "1"); !strings.HasPrefix(out, "sym,price,at\nA,1.5") {
		t.Errorf("get parquet --limit 1 printed\n%s\nwant the header and the row of A", out)
	}
}

// TestJSONLines checks that JSON lines contain the documented fields, in order.
func TestJSONLines(t *testing.T) {
	t.Setenv("PARTD_TABLES_DIR", filepath.Join(t.TempDir(), "tables"))
	for _, name := range []string{"AAPL", "aapl", " <é> "} {
		mustRun(t, "{\"x\":1,\"t\":\"2026-01-31\"}\n", "put", name, "-", "--format", "jsonl", "--mode", "append", "--bucket", "b")
	}
	mustRun(t, "", "fold", "--bucket", "b")
	maskTime := func(line string) string {
		var v map[string]any
		must.Do(t, json.Unmarshal([]byte(line), &v))
		timestamp, _ := v["updated"].(string)
		if timestamp == "" {
			timestamp, _ = v["time"].(string)
		}
		if !strings.HasSuffix(timestamp, "Z") {
			t.Errorf("%q is not a time in UTC: %s", timestamp, line)
		}
		return strings.ReplaceAll(line, timestamp, "T")
	}
	maskSize := func(line string) string {
		var v struct{ Bytes int64 }
		if err := json.Unmarshal([]byte(line), &v); err != nil || v.Bytes <= 0 {
			t.Errorf("line %s has no size: %v", line, err)
		}
		return strings.Replace(line, fmt.Sprintf(`"bytes":%d`, v.Bytes), `"bytes":N`, 1)
	}
	lines := strings.Split(strings.TrimSpace(mustRun(t, "", "list", "--json")), "\n")
	for i, name := range []string{" <é> ", "AAPL", "aapl"} {
		if want := fmt.Sprintf(`{"bucket":"b","name":%q,"rows":1,"bytes":N,"files":1,"version":1,"updated":"T"}`, name); maskSize(maskTime(lines[i])) != want {
			t.Errorf("list --json: got %s, want %s", lines[i], want)
		}
	}
	described := maskSize(maskTime(strings.TrimSpace(mustRun(t, "", "describe", "AAPL", "--bucket", "b", "--json"))))
	if want := `"updated":"T","schema":[{"name":"x","type":"int64","nullable":true},{"name":"t","type":"date32","nullable":true}],"metadata":{"_updated":"T"},"partitions":[],"maintenance":{"files":1,"small_files":1,"versions":1,BYTES,"unused_bytes":0}}`; !strings.HasSuffix(sizePattern.ReplaceAllString(described, "BYTES"), want) {
		t.Errorf("describe: got %s, want it to end with %s", described, want)
	}
	if got := maskTime(strings.TrimSpace(mustRun(t, "", "versions", "AAPL", "--bucket", "b", "--json"))); got != `{"version":1,"time":"T","operation":"append","rows":1}` {
		t.Errorf("versions AAPL --bucket b --json printed\n%s\nwant version 1, an append of 1 row", got)
	}
	wantOutput(t, "{\"bucket\":\"b\"}\n", "buckets", "--json")
}

func TestErrors(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tables")
	t.Setenv("PARTD_TABLES_DIR", dir)
	wantFailure(t, cliutil.ExitFailed, dir+" contains no tables", "get", "x")
	if _, err := os.Stat(dir); err == nil {
		t.Error("get from a missing directory created it")
	}
	rows := writeTemp(t, "rows.csv", "a\n1\n")
	mustRun(t, "", "put", "x", rows)
	for args, want := range map[string]string{
		"put x " + rows:                   `1 put "x": already exists`,
		"put y " + rows + " --mode maybe": "2 --mode \"maybe\": use error, append or replace",
		"put y rows.txt":                  "2 rows.txt: the file name does not indicate the format",
		"put y missing.csv":               "1 open missing.csv: no such file",
		"put y -":                         "2 standard input needs a format: use --format",
		"put y - --format table":          `2 --format "table": use csv`,
		"put y":                           "2 NAME and FILE is missing",
		"put x " + rows + " --progress sometimes": "2 --progress must be auto, always or never",
		"get nope":                       `1 `,
		"get x --where a>":               "2 --where: filter: position 3: expected",
		"get x --where b>1":              "1 ",
		"get x --where a='1'":            "1 ",
		"get x --limit -1":               "2 --limit is -1",
		"get x --limit one":              `2 --limit: `,
		"get x --version 99":             "1 ",
		"get x --columns b":              "1 ",
		"get x --format xml":             `2 --format "xml": use csv, jsonl, parquet, arrow or table`,
		"get x -o x.txt":                 "2 x.txt: the file name",
		"get x -o " + filepath.Dir(rows): "2 ",
		"get x --nope":                   "2 unknown flag --nope",
		"get -x":                         "2 unknown flag -x (if it is a NAME that begins with a dash, put it after --",
		"frobnicate":                     `2 unknown command "frobnicate"`,
		"import --from excel .":          `2 --from "excel": use shoots or pystore`,
		"import --from shoots missing":   "1 open missing: no such file",
		"delete nope":                    "1 ",
		"export":                         "2 TARGET is missing",
		"list [":                         "1 ",
	} {
		_, stderr, code := command(t, "", strings.Fields(args)...)
		if got := fmt.Sprintf("%d %s", code, strings.TrimPrefix(stderr, "partd-tables: ")); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want prefix %s", args, got, want)
		}
	}
	if _, stderr, code := command(t, "", "put", "a\n\x1b[31m", rows, "--bucket", "b"); code != cliutil.ExitOK || stderr != `"a\n\x1b[31m": 1 rows put, version 1`+"\n" {
		t.Errorf("put: exit code %d, stderr %q, want success and the quoted table name", code, stderr)
	}
	mustRun(t, "", "delete", "a\n\x1b[31m", "--bucket", "b")
	store := must.Get(tables.Open(t.Context(), dir, nil))(t)
	if _, stderr, code := command(t, "", "get", "x"); code != cliutil.ExitFailed || !strings.Contains(stderr, dir) || !strings.Contains(stderr, "in use") {
		t.Errorf("get from a directory that is in use: exit code %d, stderr %q, want an error that says so", code, stderr)
	}
	must.Do(t, store.Close())
	if out := mustRun(t, "", "list"); strings.Count(out, "\n") != 2 {
		t.Error("a failed put left a table:", out)
	}
}

// TestHelpAndVariables checks that a variable can set every flag, that the help names the variable, and that
// every command has an example.
func TestHelpAndVariables(t *testing.T) {
	root := newRoot(&app{})
	for _, cmd := range root.Commands() {
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("command %s has no short help or no example", cmd.Name())
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(f.Usage, "[$"+env.Variable(f.Name)+"]") {
				t.Errorf("%s --%s: the help does not name the environment variable: %s", cmd.Name(), f.Name, f.Usage)
			}
		})
	}
	var names []string
	for _, c := range root.Commands() {
		names = append(names, c.Name())
	}
	for _, want := range strings.Fields("put get list buckets delete describe versions fold compact expire import export completion") {
		if !slices.Contains(names, want) {
			t.Errorf("command %s is missing", want)
		}
	}
	t.Setenv("PARTD_TABLES_LIMIT", "many")
	wantFailure(t, cliutil.ExitUsage, `the environment variable PARTD_TABLES_LIMIT="many"`, "get", "x")
	if out := mustRun(t, "", "completion", "bash"); !strings.Contains(out, "partd-tables") {
		t.Error("completion bash does not print a script for partd-tables")
	}
}

// TestExperimental checks that the help marks exactly the commands and flags that docs/versions.md calls experimental, and
// that the pages of experimental features say so.
func TestExperimental(t *testing.T) {
	page := string(must.Get(os.ReadFile("../../../../docs/versions.md"))(t))
	row := regexp.MustCompile(`(?m)^\| commands and flags \|.*$`).FindString(page)
	var listed, marked []string
	for _, m := range regexp.MustCompile("`(pull|--[a-z]+)`").FindAllStringSubmatch(row, -1) {
		listed = append(listed, m[1])
	}
	for _, cmd := range newRoot(&app{}).Commands() {
		if strings.Contains(cmd.Long, "\nExperimental: ") {
			marked = append(marked, cmd.Name())
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if strings.Contains(f.Usage, "(experimental)") {
				marked = append(marked, "--"+f.Name)
			}
		})
	}
	slices.Sort(listed)
	slices.Sort(marked)
	if marked = slices.Compact(marked); len(marked) == 0 || !slices.Equal(listed, marked) {
		t.Errorf("docs/versions.md lists the experimental commands and flags %q, and the help marks %q", listed, marked)
	}
	for _, name := range []string{"changes", "dagster", "line-protocol", "pull", "ray", "stage"} {
		text := string(must.Get(os.ReadFile("../../../docs/" + name + ".md"))(t))
		if !strings.Contains(text, "xperimental") {
			t.Errorf("%s.md does not say that its subject is experimental", name)
		}
	}
}

func TestCompletion(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tables")
	rows := writeTemp(t, "rows.csv", "a\n1\n")
	for _, name := range []string{"AAPL", "AMZN", "B"} {
		mustRun(t, "", "put", name, rows, "--dir", dir)
	}
	out := mustRun(t, "", cobra.ShellCompRequestCmd, "get", "--dir", dir, "A")
	if !strings.HasPrefix(out, "AAPL\nAMZN\n:") {
		t.Errorf("completion of get A = %q, want AAPL and AMZN", out)
	}
	if out := mustRun(t, "", cobra.ShellCompRequestCmd, "put", "x", "--mode", ""); !strings.HasPrefix(out, "error\nappend\nreplace\n") {
		t.Errorf("completion of put --mode = %q, want the modes", out)
	}
}

func TestInterrupted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tables")
	t.Setenv("PARTD_TABLES_DIR", dir)
	rows := writeTemp(t, "rows.csv", "a\n1\n")
	mustRun(t, "", "put", "x", rows)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, stderr bytes.Buffer
	if code := runCommand(ctx, []string{"put", "y", birdstrikes}, &app{in: os.Stdin, out: &out, errOut: &stderr}); code != cliutil.ExitInterrupted || stderr.String() != "partd-tables: interrupted\n" {
		t.Errorf("interrupted put: exit code %d, stderr %q, want ExitInterrupted and the message interrupted", code, stderr.String())
	}
	if out := mustRun(t, "", "list"); strings.Count(out, "\n") != 2 {
		t.Errorf("list printed\n%s\nwant two lines", out)
	}
}

// TestDocsPython checks that the Python programs in the docs run as printed, except for the port.
func TestDocsPython(t *testing.T) {
	httpPort := nettest.FreePort(t)
	_, u := startServer(t, "--listen", "grpc://localhost:0", "--http", "localhost:"+httpPort, "--dir", t.TempDir())
	dir := t.TempDir()
	must.Do(t, os.WriteFile(filepath.Join(dir, "token"), []byte("unused\n"), 0o600))
	for _, c := range []struct{ peer, file, blockStart, blockEnd, setup, epilogue, want string }{
		{
			"shoots", "flight.md", "    from shoots import", "\n\nshoots' flags", "import pandas as pd\ndf = pd.DataFrame({'price': [5.0, 15.0]})\n",
			"print(df.price.tolist())", "[15.0]\n",
		},
		{
			"pyarrow", "flight.md", "    import pyarrow.flight as flight\n", "\n\nActions take", "import pyarrow as pa\ntable = pa.table({'price': [25.0]})\n",
			"print(table['price'].to_pylist())", "[5.0, 15.0, 25.0]\n",
		},
		{"adbc", "flightsql.md", "import adbc_driver_flightsql.dbapi as flightsql", "```", "", "", "pyarrow.Table\nsym: string\n----\nsym: [[\"B\"]]\n"},
		{"influx", "line-protocol.md", "from datetime import", "```", "", "print('written')", "written\n"},
	} {
		t.Run(c.peer, func(t *testing.T) {
			text := must.Get(os.ReadFile(filepath.Join("..", "..", "..", "docs", c.file)))(t)
			_, rest, hasStart := strings.Cut(string(text), c.blockStart)
			program, _, hasEnd := strings.Cut(rest, c.blockEnd)
			if !hasStart || !hasEnd {
				t.Fatalf("%s has no %q", c.file, c.blockStart)
			}
			block := strings.NewReplacer("8081", u.Port(), "9090", httpPort).Replace(c.blockStart + program)
			if strings.HasPrefix(block, "    ") {
				block = strings.TrimPrefix(strings.ReplaceAll(block, "\n    ", "\n"), "    ")
			}
			cmd := exec.CommandContext(t.Context(), procs.Python(t, c.peer), "-c", c.setup+block+"\n"+c.epilogue)
			cmd.Dir = dir
			cmd.Stderr = t.Output()
			if out, err := cmd.Output(); err != nil || string(out) != c.want {
				t.Errorf("got output %q, error %v, want %q\n%s", out, err, c.want, block)
			}
		})
	}
}
