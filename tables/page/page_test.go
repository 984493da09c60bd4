package page

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/internal/testutil/serverproc"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/testutil/testserve"
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
	engine, err := duck.New(&duck.Options{Memory: 128 << 20})
	if err != nil {
		t.Fatal(err)
	}
	store, err := tables.Open(t.Context(), dir, &tables.Options{Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	server, err := flightd.New(store, &o)
	if err != nil {
		t.Fatal(err)
	}
	address, _ := testserve.Run(t, func(ctx context.Context, l net.Listener) error {
		return Serve(ctx, l, server.Core, Handler(server.Core, store, Options{URL: "grpc://localhost:8081"}))
	}, store, engine)
	return &testServer{t: t, server: server, store: store, url: "http://" + address}
}

// withToken returns a client with a token for the given rights and buckets.
func (s *testServer) withToken(r flightd.Rights, buckets ...string) *testServer {
	s.t.Helper()
	token, err := flightd.NewToken(secret, r, "", time.Hour, buckets...)
	if err != nil {
		s.t.Fatal(err)
	}
	client := *s
	client.token = token
	return &client
}

func (s *testServer) request(ctx context.Context, method, path string, body io.Reader) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
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
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return a, string(text)
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

// putQuery puts the rows of a statement into a table.
func (s *testServer) putQuery(bucket, table, sql string) {
	s.t.Helper()
	r, err := s.store.Query(s.t.Context(), sql, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Release()
	if _, err := s.store.Bucket(bucket).Table(table).Put(s.t.Context(), r, tables.PutReplace, nil); err != nil {
		s.t.Fatal(err)
	}
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

// ownMemory returns the current and the largest memory of this process, in bytes.
func ownMemory(t *testing.T) (current, peak int64) {
	t.Helper()
	current, peak, err := serverproc.Memory(os.Getpid())
	if err != nil {
		if os.Getenv("PARTD_REQUIRE_ALL") != "" {
			t.Fatal("PARTD_REQUIRE_ALL is set, and this test needs /proc: ", err)
		}
		t.Skip("needs /proc, to read the memory of this process")
	}
	return current, peak
}
