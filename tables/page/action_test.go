package page

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/transform"
)

// TestOperations checks that the page offers exactly the operations that are marked for it, under each of their
// names, and that docs/dev/tables-wire.md describes them.
func TestOperations(t *testing.T) {
	s := serve(t, flightd.Options{})
	docs := must.Get(os.ReadFile(filepath.Join("..", "..", "docs", "dev", "tables-wire.md")))(t)
	_, list, _ := strings.Cut(string(docs), "## `POST /api/action`")
	for _, o := range operations.All() {
		if isOffered := slices.ContainsFunc(actions, func(a action) bool { return a.Entry == o }); isOffered != o.Page {
			t.Errorf("operation %s is on the page: %v, want %v", o.Name, isOffered, o.Page)
		}
		if strings.Contains(list, "| `"+o.Name+"` |") != o.Page {
			t.Errorf("operation %s is in docs/dev/tables-wire.md: %v, want %v", o.Name, !o.Page, o.Page)
		}
		if o.Page && o.Slots == operations.NoSlot {
			t.Errorf("operation %s uses no slot, so nothing limits it", o.Name)
		}
		for _, name := range append([]string{o.Name, strings.ReplaceAll(o.Name, "_", "-")}, o.Aliases...) {
			a, text := s.post("/api/action?dry=1", jsonOf(t, map[string]any{"action": name}))
			if s.expect(a, text, map[bool]int{true: 200, false: 400}[o.Page]); o.Page && !strings.Contains(text, "partd-tables "+o.Command) {
				t.Errorf("dry run of %s: got %s, want the command %q", name, text, o.Command)
			}
		}
	}
}

// TestResampleFields checks that the action resample passes on every option, and that its command line has them, too. The
// page does not set TimeIndex.
func TestResampleFields(t *testing.T) {
	want := transform.ResampleOptions{
		Source: transform.TableName{Bucket: "b", Name: "in"}, Target: transform.TableName{Bucket: "c", Name: "out"}, SQL: "SELECT 5",
		Rule: "7min", TimeColumn: "ts", Functions: []string{"max"}, Columns: []string{"high"}, By: []string{"sym"}, Mode: tables.PutReplace,
	}
	tabletest.CheckSet(t, want, "TimeIndex")
	var fields map[string]any
	must.Do(t, json.Unmarshal([]byte(jsonOf(t, want)), &fields))
	maps.Copy(fields, map[string]any{"bucket": "b", "source": "in", "target_bucket": "c", "target": "out", "mode": "replace", "time": "ts"})
	for _, name := range []string{"Source", "Target", "Mode", "TimeColumn"} { // the page has other names for these
		delete(fields, name)
	}
	a := &actionJSON{}
	must.Do(t, json.Unmarshal([]byte(jsonOf(t, fields)), a))
	if got := must.Get(a.resampling())(t); !reflect.DeepEqual(*got, want) {
		t.Errorf("the input of the operation is %+v, want %+v", *got, want)
	}
	c := &command{}
	actions[slices.IndexFunc(actions, func(a action) bool { return a.Entry == operations.Resample.Entry })].command(c, a)
	if got, want := len(c.args), 2*(reflect.TypeOf(want).NumField()-3)+len([]string{"--target-bucket", "c", "--", "in", "out"}); got != want {
		t.Errorf("the command line has %d arguments, want %d: %q", got, want, c.args)
	}
}

func execBody(t *testing.T, sql string, more map[string]any) string {
	t.Helper()
	body := map[string]any{"action": "exec", "bucket": "B", "sql": sql}
	for key, value := range more {
		body[key] = value
	}
	return jsonOf(t, body)
}

func TestExec(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("B", "t", "SELECT i AS x FROM range(10) t(i)")
	count := func() string {
		_, text := s.wantPost("/api/query", `{"id": "`+queryID+`", "sql": "SELECT count(*)::VARCHAR AS n FROM t", "bucket": "B"}`, 200)
		return column(t, text, "n")[0]
	}
	const sql = "DELETE FROM t WHERE x BETWEEN 0 AND 2"
	s.wantPost("/api/action", execBody(t, sql, map[string]any{"dry_run": true}), 200, `"rows":3`, `"verb":"DELETE"`, `"bucket":"B"`, `"table":"t"`, `partd-tables sql `, `-- 'DELETE FROM t WHERE x BETWEEN 0 AND 2'`)
	if got := count(); got != "10" {
		t.Errorf("after a dry run, the table has %s rows, want 10", got)
	}
	for range 2 {
		s.wantPost("/api/action", execBody(t, "INSERT INTO t VALUES (20), (21)", map[string]any{"id": queryID}), 200, `"rows":2`, `"verb":"INSERT"`)
	}
	if got := count(); got != "12" {
		t.Errorf("after two INSERTs with one id, the table has %s rows, want 12", got)
	}
	s.wantPost("/api/action", execBody(t, sql, nil), 200, `"rows":3`)
	s.wantPost("/api/action", execBody(t, "SELECT 1", nil), 400)
	if got := count(); got != "9" {
		t.Errorf("after a DELETE of 3 rows, the table has %s rows, want 9", got)
	}
}

// TestDryRun checks what dry runs of statements that remove tables return, and that a dry run stops if its connection
// is closed.
func TestDryRun(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("B", "t", "SELECT i AS x FROM range(10) t(i)")
	s.putQuery("B", "u", "SELECT i AS x FROM range(7) t(i)")
	dryRun := map[string]any{"dry_run": true}
	s.wantPost("/api/action", execBody(t, "CREATE OR REPLACE TABLE t AS SELECT 1 AS y", dryRun), 200, `"rows":1`, `"replaced":10`)
	s.wantPost("/api/action", execBody(t, `DROP SCHEMA "B" CASCADE`, dryRun), 200, `"rows":17`)
	ctx, cancel := context.WithCancel(t.Context())
	slow := execBody(t, "DELETE FROM t USING range(1000000000000) r(i) WHERE hash(i) = x", dryRun)
	r := s.request(ctx, http.MethodPost, "/api/action", strings.NewReader(slow))
	time.AfterFunc(time.Second, func() {
		if !strings.Contains(metricsText(s.server.Metrics()), "partd_tables_queries_running 1") {
			t.Error("the dry run was not running after a second")
		}
		cancel()
	})
	if a, err := http.DefaultClient.Do(r); err == nil {
		_ = a.Body.Close()
		t.Errorf("the dry run ended with status %d", a.StatusCode)
	}
	s.waitIdle()
}

// TestQueryOfWrite checks that a request for a query does not run a statement that writes. Only for callers with the
// right to write, the error says how to run it.
func TestQueryOfWrite(t *testing.T) {
	guarded := serve(t, flightd.Options{Secret: secret})
	guarded.putQuery("B", "t", "SELECT 1 AS x")
	s := guarded.withToken(flightd.Admin)
	body := map[string]any{"id": queryID, "sql": "DELETE FROM t", "bucket": "B"}
	s.wantPost("/api/query", jsonOf(t, body), 400, `"writes":true`, "action exec")
	reader := guarded.withToken(flightd.Read)
	reader.wantPost("/api/query", jsonOf(t, body), 403, "admin")
	s.wantGet("/api/download?format=csv&bucket=B&sql=DELETE+FROM+t", 400)
	body["version"] = 1
	s.wantPost("/api/query", jsonOf(t, body), 400, "cannot select a version")
	a, _ := s.wantGet("/api/rows?bucket=B&table=t", 200)
	if a.Header.Get("X-Partd-Rows") != "1" {
		t.Error("a query deleted rows")
	}
}
