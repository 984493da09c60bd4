package cli

import (
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// python runs a script in the environment of a peer.
func python(t *testing.T, peer, script string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), procs.Python(t, peer), append([]string{filepath.Join("testdata", script)}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr.String())
	}
	return string(out)
}

// importTwice runs an import twice. The second run must change nothing.
func importTwice(t *testing.T, program, source string) []string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(mustRun(t, "", "import", "--from", program, source)), "\n")
	firstOutput := mustRun(t, "", "list", "--json")
	secondLines := strings.Split(strings.TrimSpace(mustRun(t, "", "import", "--from", program, source)), "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "imported\t") || secondLines[i] != "unchanged"+strings.TrimPrefix(line, "imported") {
			t.Errorf("the first import printed %s, the second %s; want imported, and then unchanged", line, secondLines[i])
		}
	}
	wantOutput(t, firstOutput, "list", "--json")
	return lines
}

func TestImportPystore(t *testing.T) {
	source := t.TempDir()
	python(t, "pystore", "pystore_peer.py", source)
	t.Setenv("PARTD_TABLES_DIR", filepath.Join(t.TempDir(), "tables"))
	wantFailure(t, cliutil.ExitUsage, "contains several pystore stores", "import", "--from", "pystore", source)
	store := filepath.Join(source, "mystore")
	lines := importTwice(t, "pystore", store)
	for i, want := range []string{"imported\tNASDAQ\tAAPL\t30 rows", "imported\tNASDAQ\tBRK.B\t50 rows", "imported\tNASDAQ@first\tAAPL\t50 rows"} {
		if len(lines) != 3 || !strings.HasPrefix(lines[i], want) {
			t.Fatalf("import printed %q, want 3 lines with %q", lines, want)
		}
	}
	// The parts of an item keep their order: part 2 comes before part 10.
	if out := mustRun(t, "", "get", "AAPL", "--bucket", "NASDAQ@first", "--columns", "volume,sym"); !strings.HasPrefix(out, "volume,sym\n0,AAPL\n1,\n2,AAPL\n") || !strings.HasSuffix(out, "\n48,AAPL\n49,\n") {
		t.Errorf("get AAPL --bucket NASDAQ@first --columns volume,sym printed\n%s\nwant the volumes from 0 to 49 in order", out)
	}
	described := mustRun(t, "", "describe", "AAPL", "--bucket", "NASDAQ@first", "--json")
	for _, want := range []string{`"source":"test"`, `"n":5`, `"pystore._updated":"20`, `{"name":"Date","type":"timestamp[ns]"`} {
		if !strings.Contains(described, want) {
			t.Errorf("describe = %s, want it to contain %s", described, want)
		}
	}
	// A table with different rows is reported and left unchanged. The other tables are still checked.
	mustRun(t, "volume\n1\n", "put", "AAPL", "-", "--format", "csv", "--mode", "replace", "--bucket", "NASDAQ")
	out, stderr, code := command(t, "", "import", "--from", "pystore", store)
	if code != cliutil.ExitFailed || !strings.Contains(stderr, "AAPL in bucket NASDAQ: the table already exists and has different rows") || strings.Count(out, "unchanged") != 2 {
		t.Errorf("import: exit code %d, stdout %s, stderr %s, want a failure for AAPL and two unchanged tables", code, out, stderr)
	}
}

func TestImportShoots(t *testing.T) {
	source := t.TempDir()
	python(t, "shoots", "shoots_peer.py", source)
	t.Setenv("PARTD_TABLES_DIR", filepath.Join(t.TempDir(), "tables"))
	lines := importTwice(t, "shoots", source)
	for i, want := range []string{"imported\t-\tsensors\t6 rows", "imported\ttrades\tAAPL 1\t3 rows"} {
		if len(lines) != 2 || !strings.HasPrefix(lines[i], want) {
			t.Fatalf("import printed %q, want 2 lines with %q", lines, want)
		}
	}
	if out := mustRun(t, "", "get", "sensors", "--where", "v is not null and v != 0"); !strings.Contains(out, "a,2026-01-01T00:00:00,1.5\n") {
		t.Errorf("get sensors printed\n%s\nwant the row of sensor a with the value 1.5", out)
	}
}

// TestExport checks that pyarrow and pandas read exported files, and that the index from pandas' metadata is
// restored.
func TestExport(t *testing.T) {
	source, target := t.TempDir(), filepath.Join(t.TempDir(), "out")
	python(t, "pystore", "pystore_peer.py", source)
	t.Setenv("PARTD_TABLES_DIR", filepath.Join(t.TempDir(), "tables"))
	mustRun(t, "", "import", "--from", "pystore", filepath.Join(source, "mystore"))
	mustRun(t, "{\"a\":1}", "put", "../../etc", "-", "--format", "jsonl")
	mustRun(t, "{\"a\":1}", "put", strings.Repeat("é", 127), "-", "--format", "jsonl", "--bucket", "..")
	out := strings.Split(strings.TrimSpace(mustRun(t, "", "export", target)), "\n")
	if len(out) != 5 {
		t.Fatalf("export printed %q, want five paths", out)
	}
	for _, path := range out {
		if rel, err := filepath.Rel(target, path); err != nil || !filepath.IsLocal(rel) {
			t.Errorf("%s is not inside %s", path, target)
		}
		must.Get(os.Stat(path))(t)
	}
	item := filepath.Join(target, "NASDAQ", "AAPL.parquet")
	want := `{"rows": 30, "types": ["double", "int64", "large_string", "timestamp[ns]"], "last": {"open": 43.5, "volume": 29, "sym": null, "Date": "2026-01-02 05:00:00"}}` + "\n"
	if got := python(t, "pyarrow", "parquet_peer.py", item); got != want {
		t.Errorf("pyarrow read %s, want %s", got, want)
	}
	if got := python(t, "pandas", "parquet_peer.py", item); !strings.Contains(got, `{"index": "Date", "columns": ["open", "volume", "sym"]`) {
		t.Error("pandas read a frame without the index Date or with other columns:", got)
	}
	wantFailure(t, cliutil.ExitFailed, "--force", "export", target)
	mustRun(t, "", "export", target, "--force", "--bucket", "NASDAQ")
}

type foreignTable struct {
	Name  string
	Rows  []map[string]any
	Types []string
	Files []string
}

// TestForeignReaders checks that pyiceberg opens the catalog and reads folded rows, and that DuckDB reads the
// files that the catalog names.
func TestForeignReaders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tables")
	t.Setenv("PARTD_TABLES_DIR", dir)
	mustRun(t, "", "put", "birds", birdstrikes)
	for _, row := range []string{`{"n":1,"at":"2026-01-31T12:00:00","l":["x"]}`, `{"n":2,"at":null,"l":null}`} {
		mustRun(t, row, "put", "small", "-", "--format", "jsonl", "--mode", "append", "--bucket", "b")
	}
	mustRun(t, "", "fold")
	found := map[string]foreignTable{}
	for line := range strings.Lines(python(t, "pyiceberg", "iceberg_peer.py", dir)) {
		var f foreignTable
		must.Do(t, json.Unmarshal([]byte(line), &f))
		found[f.Name] = f
	}
	// Files may be in any order.
	slices.SortFunc(found["small"].Rows, func(a, b map[string]any) int { return cmp.Compare(a["n"].(float64), b["n"].(float64)) })
	small, err := json.Marshal(found["small"].Rows)
	if want := `[{"at":"2026-01-31 12:00:00","l":["x"],"n":1},{"at":null,"l":null,"n":2}]`; err != nil || string(small) != want {
		t.Errorf("pyiceberg read %s, error %v, want %s", small, err, want)
	}
	birds := found["birds"]
	files, err := json.Marshal(birds.Files)
	if err != nil || len(birds.Rows) != 10_000 {
		t.Errorf("pyiceberg read %d rows, error %v, want 10,000 rows", len(birds.Rows), err)
	}
	got := python(t, "duckdb", "duckdb_peer.py", string(files), `select count(*), sum("Cost Total $") from FILES where "Flight Date" >= '2000-01-01'`, `{"4": ["Flight Date", "DATE"], "13": ["Cost Total $", "BIGINT"]}`)
	rows := mustRun(t, "", "get", "birds", "--where", `"Flight Date" >= '2000-01-01'`, "--columns", `"Cost Total $"`)
	var sum [2]int64
	for line := range strings.Lines(rows) {
		var n int64
		if json.Unmarshal([]byte(line), &n) == nil {
			sum[1] += n
			sum[0]++
		}
	}
	var duck [2]json.Number
	if err := json.Unmarshal([]byte(strings.ReplaceAll(got, `"`, "")), &duck); err != nil {
		t.Fatalf("parse DuckDB's answer %s: %v", got, err)
	}
	if n, _ := duck[0].Int64(); n != sum[0] {
		t.Errorf("DuckDB counts %s, want %d", got, sum[0])
	}
	if n, _ := duck[1].Int64(); n != sum[1] {
		t.Errorf("DuckDB sums %s, want %d", got, sum[1])
	}
}
