package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/server/audit"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightclient"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestServeAuditLog checks the audit log's lines for calls over Flight, Flight SQL, HTTP and the Iceberg catalog:
// allowed, denied, failed, and without a valid token. The log must contain no token, and a new file after SIGHUP.
func TestServeAuditLog(t *testing.T) {
	const secret = "a secret of 32 bytes or more, of words"
	file, web := filepath.Join(t.TempDir(), "audit"), "localhost:"+nettest.FreePort(t)
	cmd, u := startServer(t, "--listen", "grpc://localhost:0", "--insecure", "--dir", t.TempDir(), "--http", web, "--audit-log", file, "--log-format", "json",
		"--secret-file", writeTemp(t, "secret", secret))
	credentials := map[flightd.Rights]*credential{}
	var tokens []string
	for rights, name := range map[flightd.Rights]string{flightd.Admin: "ann", flightd.Read: "rex"} {
		token, err := flightd.NewNamedToken([]byte(secret), name, rights, time.Hour)
		must.Do(t, err)
		tokens = append(tokens, token)
		if credentials[rights], err = newCredential(token, u.String(), "http://"+web, nil); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	var printed strings.Builder
	// line returns the first line of the operation that was not returned before.
	line := func(operation string) (found audit.Entry) {
		t.Helper()
		waitUntil(t, "the audit log has no line for "+operation, func() bool {
			text, err := os.ReadFile(file)
			if err != nil {
				return false
			}
			printed.Reset()
			printed.Write(text)
			for lines := bufio.NewScanner(strings.NewReader(string(text))); lines.Scan(); {
				var e audit.Entry
				if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
					return false
				}
				if e.Operation == operation && !seen[e.RequestID] {
					seen[e.RequestID] = true
					found = e
					return true
				}
			}
			return false
		})
		return found
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil)
	row := tabletest.ParseRows(t, schema, `[{"x": 1}, {"x": 2}, {"x": 3}]`)
	put := func(c *credential) error {
		_, err := c.flight.Put(t.Context(), "b", "t", tabletest.OneBatch(row), tables.PutAppend, nil)
		return err
	}
	ann, rex := credentials[flightd.Admin], credentials[flightd.Read]
	iceberg := func(path, body string) error {
		r, err := http.NewRequest(http.MethodPost, "http://"+web+path, strings.NewReader(body))
		if err == nil {
			r.Header.Set("Authorization", "Bearer "+ann.token)
		}
		return (&credential{session: &http.Client{Transport: ann.session.Transport}}).do(r, err)
	}
	garbled := &credential{session: rex.session, web: rex.web, token: "x.y.z"}
	stranger := must.Get(flightclient.Dial(u.String(), &flightclient.Options{Token: "no.such.token"}))(t)
	long := "SELECT x FROM b.t /* " + strings.Repeat("long ", 1000) + "*/"
	for _, c := range []struct {
		call func() error
		want audit.Entry
	}{
		{func() error { return put(ann) }, audit.Entry{User: "ann", Operation: "DoPut", Bucket: "b", Tables: []string{"t"}, Rows: 3, Outcome: audit.OK, Code: "OK"}},
		{func() error { return put(rex) }, audit.Entry{User: "rex", Operation: "DoPut", Bucket: "b", Tables: []string{"t"}, Outcome: audit.Denied, Code: "PermissionDenied"}},
		{
			func() error { return drain(rex.flight.Scan(t.Context(), "b", "t", nil, nil)) },
			audit.Entry{User: "rex", Operation: "DoGet", Bucket: "b", Tables: []string{"t"}, Rows: 3, Outcome: audit.OK, Code: "OK"},
		},
		{
			func() error { return drain(rex.flight.Scan(t.Context(), "b", "none", nil, nil)) },
			audit.Entry{User: "rex", Operation: "DoGet", Bucket: "b", Tables: []string{"none"}, Outcome: audit.Failed, Code: "NotFound"},
		},
		{
			func() error { return drain(stranger.Scan(t.Context(), "b", "t", nil, nil)) },
			audit.Entry{Operation: "DoGet", Outcome: audit.Denied, Code: "Unauthenticated"},
		},
		{
			func() error { return drain(ann.flight.Query(t.Context(), long, nil)) },
			audit.Entry{User: "ann", Operation: "DoGet", SQL: long, Rows: 3, Outcome: audit.OK, Code: "OK"},
		},
		{
			func() error {
				_, err := ann.flight.Exec(t.Context(), "DELETE FROM b.t WHERE x = 1", nil)
				byAnn := must.Get(ann.flight.Versions(t.Context(), "b", "t"))(t)
				byRex := must.Get(rex.flight.Versions(t.Context(), "b", "t"))(t)
				if byAnn[len(byAnn)-1].User != "ann" || byRex[len(byRex)-1].User != "" {
					t.Errorf("versions show %+v to an admin, and %+v to a reader; want ann only for the admin", byAnn, byRex)
				}
				return err
			},
			audit.Entry{User: "ann", Operation: "DoAction/partd.exec", Bucket: "b", Tables: []string{"t"}, SQL: "DELETE FROM b.t WHERE x = 1", Rows: 1, Outcome: audit.OK, Code: "OK"},
		},
		{
			func() error {
				return ann.post("/api/query", `{"sql": "SELECT x FROM t", "bucket": "b", "id": "0123456789abcdef"}`)
			},
			audit.Entry{User: "ann", Operation: "http-query", Bucket: "b", SQL: "SELECT x FROM t", Rows: 2, Outcome: audit.OK, Code: "OK"},
		},
		{
			func() error { return ann.post("/write?db=lines&p="+ann.token, "m v=1 1\nn v=2 2") },
			audit.Entry{User: "ann", Operation: "http-write", Bucket: "lines", Tables: []string{"m", "n"}, Rows: 2, Outcome: audit.OK, Code: "OK"},
		},
		{
			func() error {
				return rex.post("/api/action", `{"action": "delete", "bucket": "b", "tables": ["t", "u"]}`)
			},
			audit.Entry{User: "rex", Operation: "http-action/delete", Bucket: "b", Tables: []string{"t", "u"}, Outcome: audit.Denied, Code: "PermissionDenied"},
		},
		{
			func() error { return garbled.withToken("/api/tree") },
			audit.Entry{Operation: "http-tree", Outcome: audit.Denied, Code: "Unauthenticated"},
		},
		{
			func() error { return rex.withToken("/iceberg/v1/namespaces/b/tables/t") },
			audit.Entry{User: "rex", Operation: "iceberg-table", Bucket: "b", Tables: []string{"t"}, Outcome: audit.OK, Code: "OK"},
		},
		{
			func() error {
				return iceberg("/iceberg/v1/namespaces/b/tables", `{"name": "v", "schema": {"type": "struct", "fields": []}}`)
			},
			audit.Entry{User: "ann", Operation: "iceberg-create-table", Bucket: "b", Tables: []string{"v"}, Outcome: audit.OK, Code: "OK"},
		},
		{
			func() error {
				return iceberg("/iceberg/v1/namespaces/b/register", `{"name": "w", "metadata-location": "none"}`)
			},
			audit.Entry{User: "ann", Operation: "iceberg-register-table", Bucket: "b", Tables: []string{"w"}, Outcome: audit.Failed, Code: "InvalidArgument"},
		},
		{
			func() error {
				change := `{"identifier": {"namespace": ["b"], "name": "%s"}, "requirements": [], "updates": []}`
				return iceberg("/iceberg/v1/transactions/commit", `{"table-changes": [`+fmt.Sprintf(change+","+change, "t", "v")+`]}`)
			},
			audit.Entry{User: "ann", Operation: "iceberg-commit-transaction", Bucket: "b", Tables: []string{"t", "v"}, Outcome: audit.OK, Code: "OK"},
		},
		{
			func() error {
				return iceberg("/iceberg/v1/tables/rename", `{"source": {"namespace": ["b"], "name": "v"}, "destination": {"namespace": ["b"], "name": "w"}}`)
			},
			audit.Entry{User: "ann", Operation: "iceberg-rename-table", Bucket: "b", Tables: []string{"v", "w"}, Outcome: audit.OK, Code: "OK"},
		},
		{
			func() error { return garbled.withToken("/iceberg/v1/namespaces") },
			audit.Entry{Operation: "iceberg-namespaces", Outcome: audit.Denied, Code: "Unauthenticated"},
		},
		{
			func() error { return ann.flight.Delete(t.Context(), "b", "t") },
			audit.Entry{User: "ann", Operation: "DoAction/partd.delete", Bucket: "b", Tables: []string{"t"}, Outcome: audit.OK, Code: "OK"},
		},
	} {
		if err := c.call(); (err == nil) != (c.want.Outcome == audit.OK) {
			t.Errorf("%s by %q: %v", c.want.Operation, c.want.User, err)
		}
		got := line(c.want.Operation)
		if got.Host != "127.0.0.1" && got.Host != "::1" || time.Since(got.Time).Abs() > time.Minute || got.RequestID == "" || (got.Error == "") != (got.Outcome == audit.OK) || len(got.SQL) > 1100 {
			t.Errorf("the line %+v lacks its host, time, id or error, or its statement is too long", got)
		}
		if len(c.want.SQL) > 1<<10 {
			c.want.SQL = got.SQL
		}
		want := c.want
		want.Host, want.Time, want.RequestID, want.Error, want.Seconds = got.Host, got.Time, got.RequestID, got.Error, got.Seconds
		if !reflect.DeepEqual(got, want) {
			t.Errorf("the audit log has %+v, want %+v", got, want)
		}
	}
	for _, hidden := range append(tokens, secret) {
		if strings.Contains(printed.String(), hidden) {
			t.Errorf("the audit log contains %q", hidden)
		}
	}
	waitUntil(t, "the log leaves out fewer than 50 of 100 calls of a stranger", func() bool { // on a busy machine, they may take seconds
		for range 100 {
			_ = drain(stranger.Scan(t.Context(), "b", "t", nil, nil))
		}
		_ = put(ann)
		return line("DoPut").LeftOut >= 50
	})
	must.Do(t, os.Rename(file, file+".1"))
	must.Do(t, cmd.Process.Signal(syscall.SIGHUP))
	waitUntil(t, "the server writes no new file after SIGHUP", func() bool {
		_ = put(ann)
		_, err := os.Stat(file)
		return err == nil
	})
	if line("DoPut").User != "ann" {
		t.Error("the new file does not name the user")
	}
	must.Do(t, cmd.Process.Signal(os.Interrupt))
	must.Do(t, cmd.Wait())
}
