package rest

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
)

// TestRefusalCodes checks that failures caused by the client do not count as server errors, which would fire an alert.
func TestRefusalCodes(t *testing.T) {
	store := must.Get(tables.Open(t.Context(), t.TempDir(), nil))(t)
	defer store.Close()
	server := must.Get(flightd.New(store, &flightd.Options{Secret: secret, IdleTimeout: 2 * time.Second}))(t)
	h := httptest.NewServer(Handler(server.Core, store, Options{}))
	defer h.Close()
	c := (&catalog{TB: t, store: store, url: h.URL}).withToken(flightd.Admin)
	callCounts := func() string {
		w := httptest.NewRecorder()
		server.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		var lines []string
		for line := range strings.Lines(w.Body.String()) {
			if strings.HasPrefix(line, "partd_tables_calls_total") {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	c.send("POST", "namespaces", object{"namespace": []string{"a"}}, 200)
	c.create("a", "t")
	empty := object{"requirements": []any{}, "updates": []any{}}
	for _, r := range []struct {
		client       *catalog
		method, path string
		body         any
		code         int
		counts       string
	}{
		{c.withToken(flightd.Read, "a"), "GET", "namespaces/b", nil, 403, `code="PermissionDenied",method="iceberg-namespace"`},
		{c.withToken(flightd.Read, "a"), "DELETE", "namespaces/a", nil, 403, `code="PermissionDenied",method="iceberg-drop-namespace"`},
		{c, "GET", "namespaces/a/tables/no", nil, 404, `code="NotFound",method="iceberg-table"`},
		{c, "GET", "namespaces/no", nil, 404, `code="NotFound",method="iceberg-namespace"`},
		{c, "POST", "namespaces", object{"namespace": []string{"a"}}, 409, `code="AlreadyExists",method="iceberg-create-namespace"`},
		{c, "DELETE", "namespaces/a", nil, 409, `code="FailedPrecondition",method="iceberg-drop-namespace"`},
		{c, "POST", "namespaces/a/tables/t", object{"requirements": []any{object{"type": "assert-table-uuid", "uuid": "00000000-0000-0000-0000-000000000000"}}, "updates": []any{}}, 409, `code="Aborted",method="iceberg-commit"`},
		{c, "POST", "namespaces/a/tables", strings.Repeat(" ", 17<<20), 413, `code="InvalidArgument",method="iceberg-create-table"`},
		{c, "POST", "namespaces/a/register", object{"name": "x", "metadata-location": "file:///etc/passwd"}, 400, `code="InvalidArgument",method="iceberg-register-table"`},
		{c, "POST", "namespaces/a/properties", object{"removals": []string{"k"}, "updates": object{"k": "v"}}, 422, `code="InvalidArgument",method="iceberg-namespace-properties"`},
		{c, "POST", "transactions/commit", object{"table-changes": []any{empty}}, 400, `code="InvalidArgument",method="iceberg-commit-transaction"`},
	} {
		r.client.send(r.method, r.path, r.body, r.code)
		if counts := callCounts(); !strings.Contains(counts, r.counts) {
			t.Errorf("%s %s: the response %d is not counted as %s:\n%s", r.method, r.path, r.code, r.counts, counts)
		}
	}
	for _, body := range []string{"{", ""} { // the client stalls, or disconnects
		conn := must.Get(net.Dial("tcp", strings.TrimPrefix(h.URL, "http://")))(t)
		defer conn.Close()
		fmt.Fprintf(conn, "POST /v1/tables/rename HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n%s", c.token, body)
		if body == "" {
			must.Do(t, conn.(*net.TCPConn).CloseWrite())
		}
		a, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || a.StatusCode != 503 {
			t.Errorf("body %q: got response %v, error %v, want status 503", body, a, err)
		}
	}
	if counts := callCounts(); strings.Contains(counts, "Internal") || strings.Contains(counts, "Unknown") || strings.Contains(counts, "Unavailable") {
		t.Errorf("client failures are counted as server errors:\n%s", counts)
	}
}

// TestIcebergMessages checks that messages about missing or existing names are the same as in Iceberg's own catalogs,
// because engines show them.
func TestIcebergMessages(t *testing.T) {
	c := serveTables(t, "t")
	create := `{"name": "t", "schema": ` + schemaN + `}`
	commit := object{"requirements": []any{}, "updates": []any{object{"action": "set-properties", "updates": object{"a": "b"}}}}
	for _, r := range []struct {
		method, path string
		body         any
		code         int
		message      string
	}{
		{"GET", "namespaces/no", nil, 404, "Namespace does not exist: no"},
		{"POST", "namespaces/no/tables", create, 404, "Namespace does not exist: no"},
		{"POST", "namespaces", object{"namespace": []string{"ns"}}, 409, "Namespace already exists: ns"},
		{"GET", "namespaces/ns/tables/no", nil, 404, "Table does not exist: ns.no"},
		{"GET", "namespaces/default/tables/no", nil, 404, "Table does not exist: default.no"},
		{"POST", "namespaces/ns/tables/no", commit, 404, "Table does not exist: ns.no"},
		{"DELETE", "namespaces/ns/tables/no", nil, 404, "Table does not exist: ns.no"},
		{"POST", "namespaces/ns/tables", create, 409, "Table already exists: ns.t"},
		{"POST", "tables/rename", object{"source": object{"namespace": []string{"ns"}, "name": "no"}, "destination": object{"namespace": []string{"ns"}, "name": "x"}}, 404, "Table does not exist: ns.no"},
		{"POST", "tables/rename", object{"source": object{"namespace": []string{"ns"}, "name": "t"}, "destination": object{"namespace": []string{"ns"}, "name": "t"}}, 409, "rename "},
	} {
		c.send(r.method, r.path, r.body, r.code, `"message":"`+r.message)
	}
}
