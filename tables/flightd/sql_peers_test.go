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

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// serveDuck starts a server that runs statements with DuckDB.
func serveDuck(t *testing.T) *sqlTest {
	t.Helper()
	engine := must.Get(duck.New(nil))(t)
	t.Cleanup(func() { must.Do(t, engine.Close()) })
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

// runADBC runs a script with Python's ADBC driver, and checks some of the values that it prints as one JSON object, and
// parts of some of its errors.
func runADBC(t *testing.T, script string, wantValues map[string]string, wantErrors map[string][]string) {
	t.Helper()
	python := procs.Python(t, "adbc")
	s := serveDuck(t)
	var output map[string]any
	out := runPeer(t, "", python, script, s.url, s.token)
	if err := json.Unmarshal([]byte(out), &output); err != nil {
		t.Fatalf("the peer's output is not JSON: %v\n%s", err, out)
	}
	for name, want := range wantValues {
		var value any
		must.Do(t, json.Unmarshal([]byte(want), &value))
		if !reflect.DeepEqual(output[name], value) {
			t.Errorf("the peer's output %q is %v, want %s", name, output[name], want)
		}
	}
	for name, substrings := range wantErrors {
		for _, want := range substrings {
			if text, _ := output[name].(string); !strings.Contains(text, want) {
				t.Errorf("the peer's error %q is %v, want an error with %q", name, output[name], want)
			}
		}
	}
}

func TestSQLPeerADBC(t *testing.T) {
	runADBC(t, "adbc_peer.py", map[string]string{
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
	}, map[string][]string{
		"exists": {"ALREADY_EXISTS"}, "missing": {"NOT_FOUND"}, "temporary": {"NotSupportedError"},
		"wrong": {"INVALID_ARGUMENT", "line 2", "nn"},
	})
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

// TestSQLPeersInNode checks clients in JavaScript.
func TestSQLPeersInNode(t *testing.T) {
	const names = `[{"catalog_name":"partd","db_schema_name":"default"}]` + "\n" +
		`[{"catalog_name":"partd","db_schema_name":"default","table_name":"t","table_type":"TABLE"}]` + "\n"
	for peer, want := range map[string]string{"lancedb": nodeRows, "lakehouse": nodeRows + names} {
		t.Run(peer, func(t *testing.T) {
			modules, program := procs.NodeModules(t, "node-"+peer), findProgram(t, "node")
			s := serveDuck(t)
			s.put(t, "", "t", 2)
			address := strings.TrimPrefix(s.url, "grpc://")
			if got := runPeer(t, "NODE_PATH="+modules, program, peer+"_peer.js", address, s.token, nodeQuery); got != want {
				t.Errorf("the peer printed %s, want %s", got, want)
			}
		})
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
	batch := tabletest.ParseRows(t, schema, `[{"us":"`+timestamp+`","ns":"`+timestamp+`","zoned":"`+timestamp+`Z","clock":"12:34:56","view":"x","bytes":"eA=="}]`)
	tabletest.PutRows(t, s.store.Bucket(""), "stamped", tabletest.OneBatch(batch), tables.PutAppend, nil)
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

const (
	beginError  = "there are no transactions: each statement is one commit; connect with autocommit"
	secondError = "only one statement is allowed"
)

func TestSQLWritesADBC(t *testing.T) {
	runADBC(t, "adbc_writes.py", map[string]string{
		"dbapi":       `[0, 1000000, 10, 1, 6, 8, 1, 0]`,
		"executemany": `3`,
		"rows":        `[[15, 2, 140, -1]]`,
		"repeated":    `[2, 2, 2, 2]`,
		"sqlalchemy":  `[["A", 9.5], ["C", 0.5]]`,
		"millions":    `1000000`,
	}, map[string][]string{"begin": {beginError}, "two": {secondError}, "dropped": {`"quotes"`}})
}

func TestSQLWritesJDBC(t *testing.T) {
	jar, java := procs.Jar(t, "flight-sql-jdbc-driver"), findProgram(t, "java")
	s := serveDuck(t)
	var errors, lines []string
	for line := range strings.Lines(runJava(t, java, jar, "JdbcWrites.java", s)) {
		if strings.HasPrefix(line, "begin ") || strings.HasPrefix(line, "dropped ") {
			errors = append(errors, line)
		} else {
			lines = append(lines, line)
		}
	}
	want := "CREATE 0\nCREATE 1000000\nINSERT 10\nUPDATE 5\nMERGE 8\nDELETE 1\nALTER 0\nexecute false 1\nexecute true -1\n" +
		"batch 3\nprepared 1\nprepared 1\nrows 15 14 578 changed\nDROP 1000000\nabout false false true true\nrepeated 1\nrepeated 1\napplied 1\n"
	if got := strings.Join(lines, ""); got != want {
		t.Errorf("the peer printed %s, want %s", got, want)
	}
	if len(errors) != 2 || !strings.Contains(errors[0], beginError) || !strings.Contains(errors[1], `"big"`) {
		t.Errorf("the driver reported the errors %q, want %q and one that names the dropped table", errors, beginError)
	}
}
