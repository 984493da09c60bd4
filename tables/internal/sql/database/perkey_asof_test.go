//go:build cgo

package database

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestAsOfNulls checks that DuckDB still has the fault that excludeNulls works around, with the statements that
// docs/dev/upstream.md reports.
func TestAsOfNulls(t *testing.T) {
	const trades = "CREATE TABLE trades AS SELECT i, i % 4 AS sym, CASE WHEN i % 3 > 0 THEN i % 2 END AS venue, CASE WHEN i % 5 > 0 THEN i END AS t FROM range(240) AS r(i)"
	const quotes = "CREATE TABLE quotes AS FROM trades"
	const query = "SELECT count(*) FROM trades t ASOF JOIN quotes q ON t.sym = q.sym AND t.venue = q.venue AND t.t >= q.t WHERE t.venue IS NULL OR t.t IS NULL"
	page := string(must.Get(os.ReadFile("../../../../docs/dev/upstream.md"))(t))
	d := newKeyedData(t, 1)
	d.mustExecute("CREATE SCHEMA s", "SET schema = 's'", trades, quotes)
	for setting, want := range map[string]string{"SET asof_loop_join_threshold = 0": "112", "SET asof_loop_join_threshold = 1000": "0"} {
		d.mustExecute(setting)
		got, err := d.run(query, "s")
		if err != nil || !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, error %v, want %s: if both counts are 0, remove what docs/dev/upstream.md names", setting, got, err, want)
		}
		for _, statement := range []string{trades, quotes, setting, query, "\n-- " + want + "\n"} {
			if !strings.Contains(page, statement) {
				t.Errorf("docs/dev/upstream.md lacks %q", statement)
			}
		}
	}
}

// TestAsOfInternalError checks that DuckDB still has the second fault that docs/dev/upstream.md reports.
func TestAsOfInternalError(t *testing.T) {
	tables := []string{"CREATE TABLE l AS SELECT 1 AS k, 1 AS t, 1 AS v", "CREATE TABLE r AS SELECT 1 AS k, 1 AS t, 1 AS v, 1 AS w"}
	const query = "SELECT l.k, r.w FROM l ASOF JOIN r ON l.k = r.k AND l.t >= r.t AND l.v IN (r.v, 3) WHERE r.w > 0"
	page := string(must.Get(os.ReadFile("../../../../docs/dev/upstream.md"))(t))
	d := newKeyedData(t, 1)
	d.mustExecute(append([]string{"CREATE SCHEMA s", "SET schema = 's'"}, tables...)...)
	got, err := d.run(query, "s")
	must.Fail(t, err, "Failed to bind column reference", "%q: remove what docs/dev/upstream.md names", got)
	for _, statement := range append(tables, query) {
		if !strings.Contains(page, statement) {
			t.Errorf("docs/dev/upstream.md lacks %q", statement)
		}
	}
}

// TestAsOfNested checks that DuckDB still has the third fault that docs/dev/upstream.md reports, and that statements for
// parts fail instead.
func TestAsOfNested(t *testing.T) {
	tables := []string{"CREATE TABLE l AS SELECT i % 2 AS k, [i % 2] AS v, i AS t FROM range(4) AS r(i)", "CREATE TABLE r AS SELECT k, v, t - 1 AS t FROM l"}
	const query = "SELECT count(*) FROM l ASOF JOIN r ON l.k = r.k AND l.v = r.v AND l.t >= r.t"
	page := string(must.Get(os.ReadFile("../../../../docs/dev/upstream.md"))(t))
	d := newKeyedData(t, 1)
	d.mustExecute(append([]string{"CREATE SCHEMA s", "SET schema = 's'"}, tables...)...)
	if got, err := d.run(query, "s"); err != nil || !slices.Equal(got, []string{"0"}) {
		t.Errorf("%q, error %v, want 0 rows: if there are 4, remove what docs/dev/upstream.md names", got, err)
	}
	for _, statement := range append(tables, query, "\n-- 0\n") {
		if !strings.Contains(page, statement) {
			t.Errorf("docs/dev/upstream.md lacks %q", statement)
		}
	}
	columns := []string{"k", "v", "t"}
	inputs := []KeyedInput{{Name: "l", Columns: columns, By: columns[:1]}, {Name: "r", Columns: columns, By: columns[:1]}}
	for nested, hasRows := range map[string]bool{"%s.v": false, "{'a': %s.t % 2}": false, "map([1], [%s.t % 2])": false, "array_value(%s.k)": false, "union_value(n := %s.k)": false, "%s.v::VARCHAR": true, "(%s.k + 0.5)": true} {
		side := func(table string) string { return strings.ReplaceAll(nested, "%s", table) }
		joins := []string{"ON l.k = r.k AND " + side("l") + " = " + side("r") + " AND l.t >= r.t"}
		if nested == "%s.v" {
			joins = append(joins, "USING (k, v, t)")
		}
		for _, join := range joins {
			perKey, _, err := d.PerKey("SELECT l.k, count(*) FROM l ASOF LEFT JOIN r "+join+" GROUP BY l.k", inputs)
			must.Do(t, err)
			rows, err := d.run(perKey, "s")
			if hasRows && (err != nil || len(rows) != 2) || !hasRows && (err == nil || !strings.Contains(err.Error(), "each does not compare lists, structs, maps or unions in an ASOF join")) {
				t.Errorf("%s: rows %q, error %v", join, rows, err)
			}
		}
	}
}
