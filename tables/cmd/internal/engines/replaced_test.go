package engines

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

// TestReplacedBeforeCommit replaces a table after another engine loaded it, and before the engine commits rows. The
// rows keep their values if the table still has their columns. Otherwise, the commit is refused and changes nothing.
func TestReplacedBeforeCommit(t *testing.T) {
	t.Parallel()
	s := serve(t)
	o := s.flightClient(t)
	engines := map[string]*engine{"pyiceberg": s.engine(t, "pyiceberg"), "duckdb": s.engine(t, "duckdb")}
	loaded := []column{{"n", "long"}, {"v", "string"}}
	for i, c := range []struct {
		name    string
		columns []column
		row     record
		refused bool
	}{
		{"equal columns", loaded, record{"n": 2, "v": "b"}, false},
		{"one more column", []column{{"x", "double"}, {"n", "long"}, {"v", "string"}}, record{"x": 0.5, "n": 2, "v": "b"}, false},
		{"one column fewer", loaded[:1], record{"n": 2}, true},
		{"another type", []column{{"n", "long"}, {"v", "boolean"}}, record{"n": 2, "v": true}, true},
		{"other columns", []column{{"w", "string"}}, record{"w": "b"}, true},
	} {
		for kind, e := range engines {
			table := fmt.Sprintf("a.%s%d", kind, i)
			must.Do(t, o.put(table, loaded, []record{{"n": 1, "v": "a"}}, tables.PutAppend))
			e.mustRun("stage", "table", table, "rows", []record{{"n": 3, "v": "c"}})
			must.Do(t, o.put(table, c.columns, []record{c.row}, tables.PutReplace))
			_, err := e.tryRun("commit")
			want := []record{c.row}
			switch {
			case err == nil && !c.refused:
				want = append(want, record{"n": 3, "v": "c"})
			case err == nil:
				t.Errorf("%s, %s: the commit succeeds, want it refused", kind, c.name)
			case kind == "pyiceberg" && !c.refused: // DuckDB does not try again
				t.Errorf("%s, %s: %v", kind, c.name, err)
			case kind == "pyiceberg" && !strings.Contains(err.Error(), "load the table again"):
				t.Errorf("%s, %s: the error is %v, want one that says what to do", kind, c.name, err)
			}
			if d := firstDifference(rowLines(must.Get(o.rows(table))(t)), rowLines(want)); d != "" {
				t.Errorf("%s, %s: %s", kind, c.name, d)
			}
		}
	}
}

// TestDuckDBDefault adds a column with a default in DuckDB. All readers find the default in the rows of before, and
// null in later rows without a value.
func TestDuckDBDefault(t *testing.T) {
	t.Parallel()
	s := serve(t)
	o := s.flightClient(t)
	engines := map[string]*engine{"pyiceberg": s.engine(t, "pyiceberg"), "duckdb": s.engine(t, "duckdb")}
	const table = "a.t"
	s.mustNamespace("a")
	field := map[string]any{"id": 1, "name": "n", "required": false, "type": "long"}
	body := map[string]any{"name": "t", "schema": map[string]any{"type": "struct", "schema-id": 0, "fields": []any{field}}, "properties": map[string]string{"format-version": "3"}}
	if a := s.send("POST", namespacePath("a")+"/tables", body); a.code != 200 {
		t.Fatalf("create the table: got %d %s", a.code, a.raw)
	}
	engines["duckdb"].mustRun("append", "table", table, "rows", []record{{"n": 1}})
	engines["duckdb"].mustRun("run", "statement", "ALTER TABLE partd.a.t ADD COLUMN c BIGINT DEFAULT 9007199254740991")
	columns := []column{{"n", "long"}, {"c", "long"}}
	check := func(after string, want ...record) {
		t.Helper()
		read := map[string]func() ([]record, error){"get": func() ([]record, error) { return o.rows(table) }, "sql": func() ([]record, error) { return o.query(table) }}
		for kind, e := range engines {
			read[kind] = func() ([]record, error) { return e.tryRun("rows", "table", table) }
		}
		for reader, rows := range read {
			got, err := rows()
			if err != nil || fmt.Sprint(sortedValues(got)) != fmt.Sprint(sortedValues(want)) {
				t.Errorf("%s, after %s: got %v, error %v; want %v", reader, after, got, err, want)
			}
		}
	}
	check("ADD COLUMN", record{"n": 1, "c": 9007199254740991})
	must.Do(t, o.put(table, columns, []record{{"n": 2, "c": 5}, {"n": 3}}, tables.PutAppend))
	want := []record{{"n": 1, "c": 9007199254740991}, {"n": 2, "c": 5}, {"n": 3}}
	check("a put", want...)
	run(t, "", "compact", "--server", s.flight, "--bucket", "a", "t")
	check("compact", want...)
}

// sortedValues returns the values of n and c in each row, sorted by n, without rounding.
func sortedValues(rows []record) []string {
	lines := make([]string, 8)
	for _, r := range rows {
		n := fmt.Sprint(r["n"])
		lines[n[0]-'0'] += n + " " + fmt.Sprint(r["c"])
	}
	return lines
}
