package page

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/sql/worker"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// testServer is a test server of the page, together with a client.
type testServer struct {
	t      testing.TB
	server *flightd.Server
	store  *tables.Store
	url    string
	token  string
}

var secret = []byte("a secret of 32 bytes or more, of words")

func serve(t testing.TB, o flightd.Options) *testServer {
	t.Helper()
	return serveDir(t, t.TempDir(), o)
}

func serveDir(t testing.TB, dir string, o flightd.Options) *testServer {
	t.Helper()
	engine := must.Get(duck.New(&duck.Options{Memory: 128 << 20}))(t)
	store := must.Get(tables.Open(t.Context(), dir, &tables.Options{Engine: engine}))(t)
	server := must.Get(flightd.New(store, &o))(t)
	address, _ := nettest.Serve(t, func(ctx context.Context, l net.Listener) error {
		return Serve(ctx, l, server.Core, Handler(server.Core, store, Options{URL: "grpc://localhost:8081"}))
	}, store, engine)
	return &testServer{t: t, server: server, store: store, url: "http://" + address}
}

// withToken returns a client with a token for the given rights and buckets.
func (s *testServer) withToken(r flightd.Rights, buckets ...string) *testServer {
	s.t.Helper()
	token := must.Get(flightd.NewToken(secret, r, "", time.Hour, buckets...))(s.t)
	client := *s
	client.token = token
	return &client
}

func (s *testServer) request(ctx context.Context, method, path string, body io.Reader) *http.Request {
	s.t.Helper()
	r := must.Get(http.NewRequestWithContext(ctx, method, s.url+path, body))(s.t)
	if method != http.MethodGet {
		r.Header.Set("X-Partd", "1")
	}
	if s.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.token)
	}
	return r
}

func (s *testServer) do(r *http.Request) (*http.Response, string) {
	s.t.Helper()
	a := must.Get(http.DefaultClient.Do(r))(s.t)
	defer a.Body.Close()
	return a, string(must.Get(io.ReadAll(a.Body))(s.t))
}

func (s *testServer) get(path string) (*http.Response, string) {
	s.t.Helper()
	return s.do(s.request(s.t.Context(), http.MethodGet, path, nil))
}

func (s *testServer) post(path, body string) (*http.Response, string) {
	s.t.Helper()
	return s.do(s.request(s.t.Context(), http.MethodPost, path, strings.NewReader(body)))
}

// expect checks an answer's status, its headers, and that its body contains all words.
func (s *testServer) expect(a *http.Response, text string, status int, words ...string) {
	s.t.Helper()
	if a.StatusCode != status {
		s.t.Errorf("%s %s: got %d %s, want status %d", a.Request.Method, a.Request.URL, a.StatusCode, text, status)
	}
	if a.Header.Get("Content-Security-Policy") == "" || a.Header.Get("X-Content-Type-Options") != "nosniff" {
		s.t.Errorf("%s: security headers are missing: %v", a.Request.URL, a.Header)
	}
	if status >= 400 && strings.HasPrefix(a.Request.URL.Path, "/api/") {
		var p problem
		if err := json.Unmarshal([]byte(text), &p); err != nil || p.Text == "" {
			s.t.Errorf("%s: the body %q is not a JSON error: %v", a.Request.URL, text, err)
		}
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			s.t.Errorf("%s: got %s, want it to contain %s", a.Request.URL, text, w)
		}
	}
}

// wantGet sends a GET request, and checks the answer like expect.
func (s *testServer) wantGet(path string, status int, words ...string) (*http.Response, string) {
	s.t.Helper()
	a, text := s.get(path)
	s.expect(a, text, status, words...)
	return a, text
}

// wantPost sends a POST request, and checks the answer like expect.
func (s *testServer) wantPost(path, body string, status int, words ...string) (*http.Response, string) {
	s.t.Helper()
	a, text := s.post(path, body)
	s.expect(a, text, status, words...)
	return a, text
}

// putQuery puts the rows of a statement into a table.
func (s *testServer) putQuery(bucket, table, sql string) {
	s.t.Helper()
	r := must.Get(s.store.Query(s.t.Context(), sql, nil))(s.t)
	defer r.Release()
	must.Get(s.store.Bucket(bucket).Table(table).Put(s.t.Context(), r, tables.PutReplace, nil))(s.t)
}

// column returns the values of a column of an Arrow stream as text.
func column(t testing.TB, stream string, name string) (all []string) {
	t.Helper()
	r, err := ipc.NewReader(bytes.NewReader([]byte(stream)))
	if err != nil {
		t.Fatalf("read the stream %q: %v", stream, err)
	}
	defer r.Release()
	for r.Next() {
		b := r.RecordBatch()
		c := b.Column(b.Schema().FieldIndices(name)[0])
		for i := range c.Len() {
			all = append(all, c.ValueStr(i))
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return all
}

// wantNoServerErrors checks that no request counts as a server error, because refused requests must not fire an alert.
func (s *testServer) wantNoServerErrors() {
	s.t.Helper()
	for line := range strings.Lines(metricsText(s.server.Metrics())) {
		if strings.HasPrefix(line, "partd_tables_calls_total") && (strings.Contains(line, "Internal") || strings.Contains(line, "Unknown")) {
			s.t.Errorf("a refused request counts as a server error: %s", line)
		}
	}
}

// ownMemory returns the current and the largest memory of this process, in bytes.
func ownMemory(t *testing.T) (current, peak int64) {
	t.Helper()
	current, peak, err := procs.Memory(os.Getpid())
	if err != nil {
		if os.Getenv("PARTD_REQUIRE_ALL") != "" {
			t.Fatal("PARTD_REQUIRE_ALL is set, and this test needs /proc: ", err)
		}
		t.Skip("needs /proc, to read the memory of this process")
	}
	return current, peak
}

// TestErrorsHidePaths checks that no error reveals the paths of the server's files.
func TestErrorsHidePaths(t *testing.T) {
	dir := t.TempDir()
	s := serveDir(t, dir, flightd.Options{})
	s.putQuery("", "t", "SELECT i AS x FROM range(10) x(i)")
	files := tabletest.Paths(t, dir, ".parquet")
	for _, path := range files {
		must.Do(t, os.WriteFile(path, []byte("broken"), 0o600))
	}
	if len(files) == 0 {
		t.Fatal("the store has no files")
	}
	checkNoPath := func(a *http.Response, text string) {
		if s.expect(a, text, a.StatusCode); a.StatusCode == 200 || strings.Contains(text, dir) || strings.Contains(text, os.TempDir()) {
			t.Errorf("%s: got %d %s, want an error without paths", a.Request.URL, a.StatusCode, text)
		}
	}
	for _, path := range []string{"rows?table=t", "rows?table=t&sort=x&filter=x>1", "profile?table=t&column=x", "download?format=csv&table=t", "download?format=csv&sql=FROM+t"} {
		checkNoPath(s.get("/api/" + path))
	}
	for _, action := range []string{`{"action": "clean", "source": "t", "where": "x > 1"}`, `{"action": "delete-rows", "table": "t", "where": "x > 1"}`} {
		checkNoPath(s.post("/api/action", action))
	}
	t.Setenv("TMPDIR", filepath.Join(dir, "nowhere"))
	checkNoPath(s.post("/api/put?table=v&format=csv", "x\n1\n"))
}

// TestHeaders checks the headers that prevent caches from storing data, and other sites from showing the page in a
// frame.
func TestHeaders(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("", "t", "SELECT 1 AS x")
	for _, path := range []string{"/api/session", "/api/tree", "/api/rows?table=t", "/api/download?format=csv&table=t", "/api/nothing", "/"} {
		a, _ := s.get(path)
		if cache := a.Header.Get("Cache-Control"); cache != "no-store" && path != "/" {
			t.Errorf("GET %s: Cache-Control = %q, want no-store", path, cache)
		}
		policy := a.Header.Get("Content-Security-Policy")
		for _, w := range []string{"default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(policy, w) {
				t.Errorf("GET %s: Content-Security-Policy = %q, want it to contain %q", path, policy, w)
			}
		}
	}
}

// TestUnknownParameter checks that all endpoints refuse parameters that they do not know. A download with where= instead
// of filter= would otherwise return all rows.
func TestUnknownParameter(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("", "t", "SELECT 1 AS x")
	h := &handler{}
	for pattern := range h.endpoints() {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.ReplaceAll(path, "{id}", "x") + "?where=x%3D2"
		if method == "GET" {
			s.wantGet(path, 400, "the parameter", "is unknown")
		} else {
			s.wantPost(path, "{}", 400, "the parameter", "is unknown")
		}
	}
	_, text := s.wantGet("/api/download?table=t&format=csv&where=x%3D2", 400)
	if want := `the parameter \"where\" is unknown: /api/download accepts bucket, table, version, snapshot, sort, filter, id, sql, before_version, before_snapshot, format`; !strings.Contains(text, want) {
		t.Errorf("GET /api/download with where= = %s, want it to contain %s", text, want)
	}
}

func TestMain(m *testing.M) {
	worker.Main()
	os.Exit(m.Run())
}
