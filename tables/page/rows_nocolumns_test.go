package page

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/rest"
)

// TestNoColumns checks that rows without columns are refused, and that a table without columns, which an engine may
// create, is refused by each statement except the one that adds a column.
func TestNoColumns(t *testing.T) {
	s := serve(t, flightd.Options{})
	var rows bytes.Buffer
	w := ipc.NewWriter(&rows, ipc.WithSchema(arrow.NewSchema(nil, nil)))
	must.Do(t, w.Close())
	s.putQuery("B", "old", "SELECT 1 AS x")
	for _, table := range []string{"new&mode=append", "old&mode=append", "old&mode=replace"} {
		s.wantPost("/api/put?bucket=B&format=arrow&table="+table, rows.String(), 400, "the rows have no columns")
	}
	create := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/namespaces/B/tables", strings.NewReader(`{"name": "none", "schema": {"type": "struct", "schema-id": 0, "fields": []}}`))
	a := httptest.NewRecorder()
	rest.Handler(s.server.Core, s.store, rest.Options{}).ServeHTTP(a, create)
	if a.Code != 200 {
		t.Fatalf("create: got %d %s", a.Code, a.Body)
	}
	const want = `the table has no columns`
	for _, sql := range []string{"SELECT * FROM none", "SELECT count(*) FROM none", "SELECT 1 FROM old, none", "DESCRIBE none"} {
		s.wantPost("/api/query", `{"id": "0123456789abcdef", "bucket": "B", "sql": "`+sql+`"}`, 400, want)
	}
	exec := func(sql string, status int, words ...string) {
		t.Helper()
		s.wantPost("/api/action", `{"action": "exec", "bucket": "B", "sql": "`+sql+`"}`, status, words...)
	}
	for _, sql := range []string{
		"INSERT INTO none SELECT 1 AS x", "INSERT INTO none BY NAME SELECT 1 AS x", "INSERT INTO none VALUES (1)", "INSERT INTO none (x) VALUES (1)", "UPDATE none SET x = 1", "DELETE FROM none WHERE true",
		"CREATE TABLE copy AS SELECT * FROM none", "MERGE INTO none USING old ON true WHEN NOT MATCHED THEN INSERT VALUES (1)",
	} {
		exec(sql, 400, "column")
	}
	for _, path := range []string{"/api/rows?", "/api/download?format=csv&", "/api/profile?"} {
		s.wantGet(path+"bucket=B&table=none", 400, "column")
	}
	s.wantGet("/api/table?bucket=B&table=none", 200)
	s.wantGet("/api/tree", 200, `"none"`)
	exec("DELETE FROM none", 200)
	exec("TRUNCATE none", 200)
	exec("ALTER TABLE none ADD COLUMN x BIGINT", 200)
	exec("INSERT INTO none VALUES (1)", 200)
	if got := s.csv("B", "none"); got != "x\n1" {
		t.Errorf("after adding a column: got %q", got)
	}
	s.wantNoServerErrors()
}
