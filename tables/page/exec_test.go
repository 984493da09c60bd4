package page

import (
	"testing"

	"github.com/go-partd/partd/tables/flightd"
)

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
		a, text := s.post("/api/query", `{"id": "`+queryID+`", "sql": "SELECT count(*)::VARCHAR AS n FROM t", "bucket": "B"}`)
		s.expect(a, text, 200)
		return column(t, text, "n")[0]
	}
	const sql = "DELETE FROM t WHERE x BETWEEN 0 AND 2"
	a, text := s.post("/api/action", execBody(t, sql, map[string]any{"dry_run": true}))
	s.expect(a, text, 200, `"rows":3`, `"verb":"DELETE"`, `"bucket":"B"`, `"table":"t"`, `partd-tables sql `, `-- 'DELETE FROM t WHERE x BETWEEN 0 AND 2'`)
	if got := count(); got != "10" {
		t.Errorf("after a dry run, the table has %s rows, want 10", got)
	}
	for range 2 {
		a, text = s.post("/api/action", execBody(t, "INSERT INTO t VALUES (20), (21)", map[string]any{"id": queryID}))
		s.expect(a, text, 200, `"rows":2`, `"verb":"INSERT"`)
	}
	if got := count(); got != "12" {
		t.Errorf("after two INSERTs with one id, the table has %s rows, want 12", got)
	}
	a, text = s.post("/api/action", execBody(t, sql, nil))
	s.expect(a, text, 200, `"rows":3`)
	a, text = s.post("/api/action", execBody(t, "SELECT 1", nil))
	s.expect(a, text, 400)
	if got := count(); got != "9" {
		t.Errorf("after a DELETE of 3 rows, the table has %s rows, want 9", got)
	}
}

// TestQueryOfWrite checks that a request for a query does not run a statement that writes. Only for callers with the
// right to write, the error says how to run it.
func TestQueryOfWrite(t *testing.T) {
	guarded := serve(t, flightd.Options{Secret: secret})
	guarded.putQuery("B", "t", "SELECT 1 AS x")
	s := guarded.withToken(flightd.Admin)
	body := map[string]any{"id": queryID, "sql": "DELETE FROM t", "bucket": "B"}
	a, text := s.post("/api/query", jsonOf(t, body))
	s.expect(a, text, 400, `"writes":true`, "action exec")
	reader := guarded.withToken(flightd.Read)
	a, text = reader.post("/api/query", jsonOf(t, body))
	reader.expect(a, text, 403, "admin")
	a, text = s.get("/api/download?format=csv&bucket=B&sql=DELETE+FROM+t")
	s.expect(a, text, 400)
	body["version"] = 1
	a, text = s.post("/api/query", jsonOf(t, body))
	s.expect(a, text, 400, "cannot select a version")
	a, text = s.get("/api/rows?bucket=B&table=t")
	s.expect(a, text, 200)
	if a.Header.Get("X-Partd-Rows") != "1" {
		t.Error("a query deleted rows")
	}
}
