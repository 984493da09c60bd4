package page

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/tables/flightclient"
	"github.com/go-partd/partd/tables/flightd"
)

func TestSignIn(t *testing.T) {
	s := serve(t, flightd.Options{Secret: secret})
	s.wantGet("/api/session", 200, `"secret":true,"signed_in":false,"rights":"none"`)
	for _, path := range []string{"tree", "table", "rows", "profile", "download", "query/x/error"} {
		s.wantGet("/api/"+path, 401, "sign in")
	}
	for _, path := range []string{"query", "cancel", "put", "action"} {
		s.wantPost("/api/"+path, "{}", 401, "sign in")
	}
	s.wantPost("/api/sign-in", `{"token": "nonsense"}`, 401)
	reader := s.withToken(flightd.Read, "B")
	a, _ := s.wantPost("/api/sign-in", `{"token": "`+reader.token+`"}`, 200, `"signed_in":true,"rights":"read","buckets":["B"],"expires":"20`)
	c := a.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Secure {
		t.Errorf("sign-in: got cookie %v, want HttpOnly and SameSite=Strict", c)
	}
	r := s.request(t.Context(), http.MethodGet, "/api/tree", nil)
	r.AddCookie(c)
	a, text := s.do(r)
	s.expect(a, text, 200)
	a, text = s.post("/api/sign-out", "")
	if s.expect(a, text, 200, `"signed_in":false`); a.Cookies()[0].MaxAge >= 0 {
		t.Errorf("sign-out: got cookies %v, want the cookie deleted", a.Cookies())
	}
	foreignToken := must.Get(flightd.NewToken([]byte("another secret"), flightd.Admin, "", 1<<40))(t)
	s.token = foreignToken
	_, text = s.wantGet("/api/tree", 401)
	if strings.Contains(text, foreignToken) {
		t.Error("the error reveals the token: ", text)
	}
}

// TestRights checks that a token for one bucket gives access only to that bucket, whatever the statement, action or
// name, and that a read token cannot change anything.
func TestRights(t *testing.T) {
	s := serve(t, flightd.Options{Secret: secret})
	for _, bucket := range []string{"", "A", "B"} {
		s.putQuery(bucket, "t", "SELECT 1 AS x")
		s.putQuery(bucket, "hidden in "+bucket, "SELECT 1 AS x")
	}
	must.Get(s.store.Bucket("A").Snapshot(t.Context(), "kept"))(t)
	b := s.withToken(flightd.Admin, "B")
	a, text := b.get("/api/tree")
	if b.expect(a, text, 200, `"name":"B"`); strings.Contains(text, `"A"`) || strings.Contains(text, `"name":""`) {
		t.Errorf("the tree for a token for B shows other buckets: %s", text)
	}
	for _, path := range []string{"table?", "rows?", "rows?snapshot=kept&", "profile?column=x&", "download?format=csv&", "download?format=csv&sql=SELECT+1&"} {
		a, text := b.get("/api/" + path + "bucket=B&table=t")
		if !strings.Contains(path, "sql") && !strings.Contains(path, "snapshot") {
			b.expect(a, text, 200)
		}
		for _, bucket := range []string{"A", ""} {
			query := url.Values{"bucket": {bucket}}.Encode()
			if !strings.Contains(path, "sql") {
				query += "&table=t"
			}
			b.wantGet("/api/"+path+query, 403, "bucket")
		}
	}
	for _, sql := range []string{
		`SELECT * FROM "A"."t"`, `SELECT * FROM a.T`, `SELECT * FROM t JOIN partd."A".t USING (x)`, `SELECT (SELECT max(x) FROM "A".t)`,
		`WITH t AS (SELECT * FROM "A".t) SELECT * FROM t`, `SELECT * FROM "default".t`, `SELECT * FROM "A"."hidden in"`, `SELECT * FROM "A".nothing`,
	} {
		a, text := b.post("/api/query", jsonOf(t, map[string]any{"id": "aaaaaaaaaaaaaaaa", "sql": sql, "bucket": "B"}))
		if b.expect(a, text, a.StatusCode); a.StatusCode != 403 && a.StatusCode != 404 && a.StatusCode != 400 || strings.Contains(text, "hidden in A") {
			t.Errorf("%s: got status %d %s, want an error that reveals no other bucket", sql, a.StatusCode, text)
		}
		for _, action := range []map[string]any{
			{"action": "resample", "bucket": "B", "source": "t", "target": "stolen", "sql": sql},
			{"action": "clean", "bucket": "B", "source": "t", "target": "stolen", "where": "x IN (" + sql + ")"},
		} {
			a, text := b.post("/api/action", jsonOf(t, action))
			if b.expect(a, text, a.StatusCode); a.StatusCode < 400 || a.StatusCode >= 500 {
				t.Errorf("action %v: got status %d %s, want a client error", action, a.StatusCode, text)
			}
		}
		a, text = b.get("/api/rows?bucket=B&table=t&filter=" + url.QueryEscape("x IN ("+sql+")"))
		if a.StatusCode < 400 || a.StatusCode >= 500 {
			t.Errorf("filter with %s: got status %d %s, want a client error", sql, a.StatusCode, text)
		}
	}
	b.wantPost("/api/query", `{"id": "aaaaaaaaaaaaaaaa", "sql": "SELECT 1", "bucket": "A"}`, 403, "bucket")
	for _, action := range []string{
		`{"action": "delete", "bucket": "A", "tables": ["t"]}`, `{"action": "restore", "bucket": "A", "name": "kept"}`,
		`{"action": "combine", "bucket": "B", "sources": ["t", "t"], "target": "t2", "target_bucket": "A"}`,
		`{"action": "combine", "bucket": "A", "sources": ["t", "t"], "target": "t2", "target_bucket": "B"}`,
	} {
		b.wantPost("/api/action", action, 403)
	}
	b.wantPost("/api/put?bucket=A&table=new&format=csv", "x\n1\n", 403)
	for _, sql := range []string{
		`DELETE FROM "A".t`, `INSERT INTO "A".t VALUES (2)`, `INSERT INTO t SELECT * FROM "A".t`, `UPDATE t SET x = 2 FROM "A".t AS o`, `DELETE FROM t USING "A".t AS o WHERE true`,
		`MERGE INTO t USING "A".t AS o ON t.x = o.x WHEN MATCHED THEN DELETE`, `CREATE TABLE "A".u AS SELECT 1 AS x`, `CREATE TABLE u AS SELECT * FROM "A".t`,
		`TRUNCATE "A".t`, `ALTER TABLE "A".t ADD COLUMN y INTEGER`, `DROP TABLE "A".t`, `DROP TABLE IF EXISTS "A".nothing`, `CREATE SCHEMA "C"`, `DROP SCHEMA "A" CASCADE`,
	} {
		for _, dryRun := range []bool{true, false} {
			a, text := b.post("/api/action", execBody(t, sql, map[string]any{"dry_run": dryRun}))
			if a.StatusCode != 403 {
				t.Errorf("%s with a token for bucket B: got status %d %s, want 403", sql, a.StatusCode, text)
			}
		}
	}
	b.wantPost("/api/action", execBody(t, "INSERT INTO t VALUES (2)", nil), 200, `"rows":1`)
	reader := s.withToken(flightd.Read)
	reader.wantPost("/api/action", execBody(t, "DELETE FROM t", map[string]any{"dry_run": true}), 403, "admin")
	reader.wantPost("/api/put?bucket=A&table=new&format=csv", "x\n1\n", 403, "admin")
	reader.wantPost("/api/action", `{"action": "delete", "bucket": "A", "tables": ["t"]}`, 403, "admin")
	reader.wantPost("/api/action?dry=1", `{"action": "delete", "bucket": "A", "tables": ["t"]}`, 200, `--token-file token --bucket A -- t"`)
	reader.wantPost("/api/query", `{"id": "aaaaaaaaaaaaaaaa", "sql": "SELECT * FROM \"A\".t, \"B\".t AS u"}`, 200)
	s.wantNoServerErrors()
}

// TestFlightRefusesBuckets checks that Flight calls refuse a token that is restricted to some buckets.
func TestFlightRefusesBuckets(t *testing.T) {
	s := serve(t, flightd.Options{Secret: secret})
	address, _ := nettest.Serve(t, s.server.Serve)
	for want, token := range map[bool]string{true: s.withToken(flightd.Admin).token, false: s.withToken(flightd.Admin, "B").token} {
		c, err := flightclient.Dial("grpc://"+address, &flightclient.Options{Token: token, Insecure: true})
		if err == nil {
			for _, iterErr := range c.Buckets(t.Context()) {
				err = errors.Join(err, iterErr)
			}
			_ = c.Close()
		}
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "limited to some buckets") {
			t.Errorf("Flight call: got error %v, want success: %v", err, want)
		}
	}
}

// TestCrossSiteRequests checks that requests that another site makes a browser send are refused.
func TestCrossSiteRequests(t *testing.T) {
	s := serve(t, flightd.Options{})
	for name, headers := range map[string]map[string]string{
		"no header":      {"X-Partd": ""},
		"another origin": {"Origin": "https://evil.example"},
		"another site":   {"Sec-Fetch-Site": "cross-site"},
		"a sibling site": {"Sec-Fetch-Site": "same-site"},
		"DNS rebinding":  {"Host": "evil.example"},
	} {
		for _, path := range []string{"sign-in", "sign-out", "query", "cancel", "put", "action"} {
			r := s.request(t.Context(), http.MethodPost, "/api/"+path, strings.NewReader("{}"))
			for key, value := range headers {
				r.Header.Set(key, value)
			}
			if host := headers["Host"]; host != "" {
				r.Host = host
			}
			a, text := s.do(r)
			if s.expect(a, text, 403); t.Failed() {
				t.Fatalf("the request with %s was not refused", name)
			}
		}
	}
	for _, c := range []struct{ site, host string }{{"cross-site", ""}, {"same-site", ""}, {"", "evil.example"}, {"", "evil.example:80"}, {"", "127.0.0.1.evil.example"}} {
		r := s.request(t.Context(), http.MethodGet, "/api/tree", nil)
		r.Header.Set("Sec-Fetch-Site", c.site)
		r.Host = c.host
		a, text := s.do(r)
		s.expect(a, text, 403)
	}
	for _, host := range []string{"localhost", "localhost:9090", "127.0.0.1:1", "[::1]:9090", "[::1]"} {
		r := s.request(t.Context(), http.MethodGet, "/api/tree", nil)
		r.Host = host
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		a, text := s.do(r)
		s.expect(a, text, 200)
	}
}

func TestFiles(t *testing.T) {
	s := serve(t, flightd.Options{})
	index := must.Get(dist.ReadFile("dist/index.html"))(t)
	r := s.request(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Accept-Encoding", "identity")
	a, text := s.do(r)
	s.expect(a, text, 200, string(index))
	if kind := a.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/html") {
		t.Errorf("GET /: Content-Type = %q, want text/html", kind)
	}
	r = s.request(t.Context(), http.MethodGet, "/index.html", nil)
	r.Header.Set("If-None-Match", a.Header.Get("ETag"))
	r.Header.Set("Accept-Encoding", "identity")
	a, text = s.do(r)
	s.expect(a, text, http.StatusNotModified)
	var sent []string // the compressed response, then the plain one
	for _, encoding := range []string{"gzip", "identity"} {
		r := s.request(t.Context(), http.MethodGet, "/page.js", nil)
		r.Header.Set("Accept-Encoding", encoding)
		a, text := s.do(r)
		if got := a.Header.Get("Content-Encoding"); a.StatusCode != 200 || (got == "gzip") != (encoding == "gzip") {
			t.Errorf("Accept-Encoding %s: got status %d, encoding %q, want status 200 and gzip only if it was requested", encoding, a.StatusCode, got)
		}
		sent = append(sent, text)
	}
	if plain, err := gunzip([]byte(sent[0])); err != nil || len(plain) < 1000 || string(plain) != sent[1] {
		t.Errorf("page.js has %d bytes after decompression and %d bytes without, want the same content; error: %v", len(plain), len(sent[1]), err)
	}
	for _, path := range []string{"/../page.go", "/none.js", "/%2e%2e/files.go", "/index.html/x"} {
		a, text := s.get(path)
		if a.StatusCode != 404 || strings.Contains(text, "package") {
			t.Errorf("GET %s: got %d %s, want 404", path, a.StatusCode, text)
		}
	}
	for header, want := range map[string]bool{"gzip, br": true, "br;q=0": false, "br;q=0.5": true, "": false, "brx": false, "gzip;q=1,br ; q=1": true} {
		r.Header.Set("Accept-Encoding", header)
		if acceptsEncoding(r, "br") != want {
			t.Errorf("acceptsEncoding(%q, br) = %v, want %v", header, !want, want)
		}
	}
}
