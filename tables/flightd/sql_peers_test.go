package flightd

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

// serveDuck starts a server that runs statements with DuckDB.
func serveDuck(t *testing.T) *sqlTest {
	t.Helper()
	engine := must.Get(duck.New(nil))(t)
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return serveEngine(t, Admin, engine, nil)
}

// runPeer runs a script in testdata with a program, and returns the output.
func runPeer(t *testing.T, env, program, script string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, append([]string{filepath.Join("testdata", script)}, args...)...)
	cmd.Env = append(os.Environ(), env)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, stderr.String())
	}
	return string(out)
}

func TestSQLPeerADBC(t *testing.T) {
	python := procs.Python(t, "adbc")
	s := serveDuck(t)
	var output map[string]any
	out := runPeer(t, "", python, "adbc_peer.py", s.url, s.token)
	if err := json.Unmarshal([]byte(out), &output); err != nil {
		t.Fatalf("the peer's output is not JSON: %v\n%s", err, out)
	}
	for name, want := range map[string]string{
		"ingested":   `[3, 3, 3, 3]`,
		"joined":     `{"s": ["a", "c"], "n": [2, 6]}`,
		"parameters": `[[[3, "c"], [3, "c"]], [[3, "c"], [3, "c"]]]`,
		"untyped":    `[[[1], [1]], [[3], [3]], [[1, "r1"], [1, "r1"]], [[2.5]], [[2]]]`,
		"wide":       `1`,
		"many":       `300000`,
		"about": `[[["column_name", "column_type"], [["n", "BIGINT"], ["s", "VARCHAR"]]], [["column_name", "column_type"], [["n", "BIGINT"], ["s", "VARCHAR"]]],
			[["explain_key", "explain_value"], []], [["arrow_typeof(n)", "arrow_typeof(s)"], [["Int64", "Utf8"]]]]`,
		"types":   `["TABLE"]`,
		"vendor":  `"partd-tables"`,
		"schema":  `"n: int64\ns: string"`,
		"objects": `[["partd", "b", "u", ["n", "s"]], ["partd", "default", "t", ["n", "s"]]]`,
	} {
		var value any
		must.Do(t, json.Unmarshal([]byte(want), &value))
		if !reflect.DeepEqual(output[name], value) {
			t.Errorf("the peer's output %q is %v, want %s", name, output[name], want)
		}
	}
	for name, substrings := range map[string][]string{
		"exists": {"ALREADY_EXISTS"}, "missing": {"NOT_FOUND"}, "temporary": {"NotSupportedError"},
		"wrong": {"INVALID_ARGUMENT", "line 2", "nn"},
	} {
		for _, want := range substrings {
			if text, _ := output[name].(string); !strings.Contains(text, want) {
				t.Errorf("the peer's error %q is %v, want an error with %q", name, output[name], want)
			}
		}
	}
}

const (
	nodeQuery = `SELECT s, n FROM t ORDER BY n`
	nodeRows  = `[{"s":"text 0","n":0},{"s":"text 1","n":1}]` + "\n"
)

// findProgram returns the path of a program. It skips the test if the program is not installed.
func findProgram(t *testing.T, name string) string {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil && os.Getenv("PARTD_REQUIRE_ALL") == "1" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	return program
}

func TestSQLPeerLanceDB(t *testing.T) {
	modules, program := procs.NodeModules(t, "node-lancedb"), findProgram(t, "node")
	s := serveDuck(t)
	s.put(t, "", "t", 2)
	address := strings.TrimPrefix(s.url, "grpc://")
	if got := runPeer(t, "NODE_PATH="+modules, program, "lancedb_peer.js", address, s.token, nodeQuery); got != nodeRows {
		t.Errorf("the peer printed %s, want %s", got, nodeRows)
	}
}

func TestSQLPeerLakehouse(t *testing.T) {
	modules, program := procs.NodeModules(t, "node-lakehouse"), findProgram(t, "node")
	s := serveDuck(t)
	s.put(t, "", "t", 2)
	address := strings.TrimPrefix(s.url, "grpc://")
	want := nodeRows + `[{"catalog_name":"partd","db_schema_name":"default"}]` + "\n" +
		`[{"catalog_name":"partd","db_schema_name":"default","table_name":"t","table_type":"TABLE"}]` + "\n"
	if got := runPeer(t, "NODE_PATH="+modules, program, "lakehouse_peer.js", address, s.token, nodeQuery); got != want {
		t.Errorf("the peer printed %s, want %s", got, want)
	}
}

// runJava runs a Java program in testdata with the JDBC driver, for a server, and returns the output.
func runJava(t *testing.T, java, jar, program string, s *sqlTest) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), java, "--add-opens=java.base/java.nio=ALL-UNNAMED", "-cp", jar,
		filepath.Join("testdata", program), strings.TrimPrefix(s.url, "grpc://"), s.token)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s failed: %v\n%s\n%s", program, err, out, stderr.String())
	}
	return string(out)
}

func TestSQLPeerJDBC(t *testing.T) {
	jar, java := procs.Jar(t, "flight-sql-jdbc-driver"), findProgram(t, "java")
	s := serveDuck(t)
	s.put(t, "", "t", 2)
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "us", Type: &arrow.TimestampType{Unit: arrow.Microsecond}},
		{Name: "ns", Type: &arrow.TimestampType{Unit: arrow.Nanosecond}},
		{Name: "zoned", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
		{Name: "clock", Type: arrow.FixedWidthTypes.Time64us},
		{Name: "view", Type: arrow.BinaryTypes.StringView},
		{Name: "bytes", Type: arrow.BinaryTypes.BinaryView},
	}, nil)
	const timestamp = "2020-01-01 12:34:56.789"
	batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(`[{"us":"`+timestamp+`","ns":"`+timestamp+`","zoned":"`+timestamp+`Z","clock":"12:34:56","view":"x","bytes":"eA=="}]`))
	must.Do(t, err)
	rows := must.Get(array.NewRecordReader(schema, []arrow.RecordBatch{batch}))(t)
	must.Get(s.store.Bucket("").Table("stamped").Put(t.Context(), rows, tables.PutAppend, nil))(t)
	got, failures, _ := strings.Cut(runJava(t, java, jar, "JdbcPeer.java", s), "wrong ")
	want := "select text 0,0;text 1,1;\nprepared \nprepared text 1;\n" +
		"times 1577882096789000,true,1577882096789000000,1577882096789000,45296000000,2020;\ncompared " + timestamp + ";\n" +
		"untyped 1;\nuntyped 1,%1;\nnulls true,true,true,true;\nnulls false,true,true,true;\nbatch true\n" +
		"many 300000,44999850000;\nfetched 300000\n" +
		"table partd.default.stamped TABLE\ntable partd.default.t TABLE\n" +
		"column us TIMESTAMP\ncolumn ns TIMESTAMP\ncolumn zoned TIMESTAMP_WITH_TIMEZONE\ncolumn clock TIME\ncolumn view VARCHAR\ncolumn bytes VARBINARY\n" +
		"column n BIGINT\ncolumn s VARCHAR\nanswers true true true true\nproduct partd-tables\n"
	if got != want {
		t.Errorf("the peer printed %s, want %s", got, want)
	}
	if !strings.Contains(failures, "line 2") || !strings.Contains(failures, "nn") {
		t.Errorf("the driver reported the wrong error: %s", failures)
	}
}
