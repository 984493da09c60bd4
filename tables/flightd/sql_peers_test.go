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

	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/peers"
)

func serveDuck(t *testing.T) *sqlTest {
	t.Helper()
	engine, err := duck.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return serveEngine(t, Admin, engine, nil)
}

// runPeer runs a program with an argument from testdata, and returns what it printed.
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
	python := peers.Python(t, "adbc")
	s := serveDuck(t)
	var said map[string]any
	out := runPeer(t, "", python, "adbc_peer.py", s.url, s.token)
	if err := json.Unmarshal([]byte(out), &said); err != nil {
		t.Fatal(err, out)
	}
	for name, want := range map[string]string{
		"ingested":   `[3, 3, 3, 3]`,
		"joined":     `{"s": ["a", "c"], "n": [2, 6]}`,
		"parameters": `[[[3, "c"], [3, "c"]], [[3, "c"], [3, "c"]]]`,
		"many":       `300000`,
		"about": `[[["column_name", "column_type"], [["n", "BIGINT"], ["s", "VARCHAR"]]], [["column_name", "column_type"], [["n", "BIGINT"], ["s", "VARCHAR"]]],
			[["explain_key", "explain_value"], []], [["arrow_typeof(n)", "arrow_typeof(s)"], [["Int64", "Utf8"]]]]`,
		"types":   `["TABLE"]`,
		"vendor":  `"partd-tables"`,
		"schema":  `"n: int64\ns: string"`,
		"objects": `[["partd", "b", "u", ["n", "s"]], ["partd", "default", "t", ["n", "s"]]]`,
	} {
		var value any
		if err := json.Unmarshal([]byte(want), &value); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(said[name], value) {
			t.Errorf("%s: %v, want %s", name, said[name], want)
		}
	}
	for name, wants := range map[string][]string{
		"exists": {"ALREADY_EXISTS"}, "missing": {"NOT_FOUND"}, "temporary": {"NotSupportedError"},
		"wrong": {"INVALID_ARGUMENT", "line 2", "nn"}, "writes": {"INVALID_ARGUMENT"},
	} {
		for _, want := range wants {
			if text, _ := said[name].(string); !strings.Contains(text, want) {
				t.Errorf("%s: %v, want %q", name, said[name], want)
			}
		}
	}
}

const (
	nodeQuery = `SELECT s, n FROM t ORDER BY n`
	nodeRows  = `[{"s":"text 0","n":0},{"s":"text 1","n":1}]` + "\n"
)

func node(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("node")
	if err != nil && os.Getenv("PARTD_REQUIRE_ALL") == "1" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	return program
}

func TestSQLPeerLanceDB(t *testing.T) {
	modules, program := peers.Node(t, "node-lancedb"), node(t)
	s := serveDuck(t)
	s.put(t, "", "t", 2)
	address := strings.TrimPrefix(s.url, "grpc://")
	if got := runPeer(t, "NODE_PATH="+modules, program, "lancedb_peer.js", address, s.token, nodeQuery); got != nodeRows {
		t.Errorf("%s, want %s", got, nodeRows)
	}
}

func TestSQLPeerLakehouse(t *testing.T) {
	modules, program := peers.Node(t, "node-lakehouse"), node(t)
	s := serveDuck(t)
	s.put(t, "", "t", 2)
	address := strings.TrimPrefix(s.url, "grpc://")
	want := nodeRows + `[{"catalog_name":"partd","db_schema_name":"default"}]` + "\n" +
		`[{"catalog_name":"partd","db_schema_name":"default","table_name":"t","table_type":"TABLE"}]` + "\n"
	if got := runPeer(t, "NODE_PATH="+modules, program, "lakehouse_peer.js", address, s.token, nodeQuery); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSQLPeerJDBC(t *testing.T) {
	jar := peers.Jar(t, "flight-sql-jdbc-driver")
	java, err := exec.LookPath("java")
	if err != nil && os.Getenv("PARTD_REQUIRE_ALL") == "1" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	s := serveDuck(t)
	s.put(t, "", "t", 2)
	cmd := exec.CommandContext(t.Context(), java, "--add-opens=java.base/java.nio=ALL-UNNAMED", "-cp", jar,
		filepath.Join("testdata", "JdbcPeer.java"), strings.TrimPrefix(s.url, "grpc://"), s.token)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, stderr.String())
	}
	got, failures, _ := strings.Cut(string(out), "wrong ")
	want := "select text 0,0;text 1,1;\nprepared \nprepared text 1;\nmany 300000,44999850000;\nfetched 300000\n" +
		"table partd.default.t TABLE\ncolumn n BIGINT\ncolumn s VARCHAR\nproduct partd-tables\n"
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
	wrong, writes, _ := strings.Cut(failures, "\nwrites ")
	if !strings.Contains(wrong, "line 2") || !strings.Contains(wrong, "nn") || !strings.Contains(writes, "SELECT") {
		t.Error(failures)
	}
}
