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
