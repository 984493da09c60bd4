package flightd

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

const (
	beginError  = "there are no transactions: each statement is one commit; connect with autocommit"
	secondError = "only one statement is allowed"
)

func TestSQLWritesADBC(t *testing.T) {
	python := procs.Python(t, "adbc")
	s := serveDuck(t)
	var output map[string]any
	out := runPeer(t, "", python, "adbc_writes.py", s.url, s.token)
	if err := json.Unmarshal([]byte(out), &output); err != nil {
		t.Fatalf("the peer's output is not JSON: %v\n%s", err, out)
	}
	for name, want := range map[string]string{
		"dbapi":       `[0, 1000000, 10, 1, 6, 8, 1, 0]`,
		"executemany": `3`,
		"rows":        `[[15, 2, 140, -1]]`,
		"repeated":    `[2, 2, 2, 2]`,
		"sqlalchemy":  `[["A", 9.5], ["C", 0.5]]`,
		"millions":    `1000000`,
	} {
		var value any
		must.Do(t, json.Unmarshal([]byte(want), &value))
		if !reflect.DeepEqual(output[name], value) {
			t.Errorf("the peer's output %q is %v, want %s", name, output[name], want)
		}
	}
	for name, want := range map[string]string{"begin": beginError, "two": secondError, "dropped": `"quotes"`} {
		if text, _ := output[name].(string); !strings.Contains(text, want) {
			t.Errorf("the peer's error %q is %v, want an error with %q", name, output[name], want)
		}
	}
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
