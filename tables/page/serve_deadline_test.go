package page

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// slowBody returns a body that takes twice the given time, in three pieces. Each piece comes in time.
func slowBody(body string, idle time.Duration) io.Reader {
	r, w := io.Pipe()
	go func() {
		third := len(body) / 3
		for i, piece := range []string{body[:third], body[third : 2*third], body[2*third:]} {
			if i > 0 {
				time.Sleep(idle * 3 / 4)
			}
			if _, err := io.WriteString(w, piece); err != nil {
				return // the server has answered
			}
		}
		time.Sleep(idle / 2)
		_ = w.Close() // always returns nil
	}()
	return r
}

// slowControl is a ResponseWriter that counts the deadlines that are set after the end of the request. Over HTTP/2, these
// would crash the server.
type slowControl struct {
	http.ResponseWriter
	ended, late *atomic.Int32
}

func (w *slowControl) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *slowControl) SetReadDeadline(d time.Time) error  { return w.set(d) }
func (w *slowControl) SetWriteDeadline(d time.Time) error { return w.set(d) }

func (w *slowControl) set(deadline time.Time) error {
	if time.Until(deadline) <= 0 && !deadline.IsZero() { // a canceled request
		time.Sleep(100 * time.Millisecond)
	}
	w.late.Add(w.ended.Load())
	return nil
}

// TestNoDeadlineAfterEnd checks that a canceled request sets no deadline after it has ended.
func TestNoDeadlineAfterEnd(t *testing.T) {
	s := serve(t, flightd.Options{})
	s.putQuery("B", "t", "SELECT repeat('x', 1000) AS x FROM range(30000)")
	h := Handler(s.server.Core, s.store, Options{})
	for _, pattern := range []string{"POST /write?db=B", "GET /api/download?bucket=B&table=t&format=csv", "GET /api/follow?bucket=B&table=t&every=1s"} {
		method, path, _ := strings.Cut(pattern, " ")
		ctx, cancel := context.WithCancel(t.Context())
		body, _ := io.Pipe()
		stop := context.AfterFunc(ctx, func() { _ = body.CloseWithError(io.ErrUnexpectedEOF) })
		r := httptest.NewRequestWithContext(ctx, method, path, body)
		r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
		w := &slowControl{&failingWriter{httptest.NewRecorder(), ctx}, new(atomic.Int32), new(atomic.Int32)}
		time.AfterFunc(300*time.Millisecond, cancel)
		func() {
			defer func() { _ = recover() }() // aborts the answer
			h.ServeHTTP(w, r)
		}()
		w.ended.Store(1)
		time.Sleep(200 * time.Millisecond)
		if n := w.late.Load(); n > 0 {
			t.Errorf("%s: %d deadlines were set after the end", pattern, n)
		}
		stop()
	}
}

// failingWriter fails when ctx ends, as a connection that is closed.
type failingWriter struct {
	*httptest.ResponseRecorder
	ctx context.Context
}

func (w *failingWriter) Write([]byte) (int, error) {
	<-w.ctx.Done()
	return 0, w.ctx.Err()
}

// TestSlowHTTP2 checks that a slow body, a wait for a slot, and pauses between rows end no stream of HTTP/2, whose
// deadlines do not wait for a read or write.
func TestSlowHTTP2(t *testing.T) {
	const idle = time.Second
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	s := serve(t, flightd.Options{IdleTimeout: idle, Puts: 1, TLS: certified.TLS})
	s.url = "https" + strings.TrimPrefix(s.url, "http")
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // a test's certificate
	send := func(method, path string, body io.Reader, lines int) {
		t.Helper()
		a := must.Get(client.Do(s.request(t.Context(), method, path, body)))(t)
		defer a.Body.Close()
		var err error
		for r := bufio.NewReader(a.Body); lines > 0 && err == nil; lines-- {
			_, err = r.ReadString('\n')
		}
		if a.ProtoMajor != 2 || a.StatusCode >= 300 || err != nil {
			t.Errorf("%s %s: got %s %s, %v", method, path, a.Proto, a.Status, err)
		}
	}
	send("POST", "/write", slowBody("m v=1 1\n", idle), 0)
	other, end := s.server.NewCall(t.Context(), &serving.Caller{Rights: serving.Admin}, "192.0.2.1:1")
	defer end(nil)
	time.AfterFunc(3*idle, must.Get(serving.AcquirePut(other))(t))
	send("POST", "/write", strings.NewReader("m v=1 1\n"), 0)
	send("GET", "/api/follow?table=m&every=3s", nil, 8)
}

// TestAnswersArrive checks that each path answers even if its body, or its wait for a slot, takes longer than
// IdleTimeout.
func TestAnswersArrive(t *testing.T) {
	const idle = time.Second
	s := serve(t, flightd.Options{Secret: secret, IdleTimeout: idle, Queries: 1, Puts: 1})
	s.putQuery("B", "t", "SELECT 1 AS x")
	s = s.withToken(flightd.Admin)
	other, end := s.server.NewCall(t.Context(), &serving.Caller{Rights: serving.Admin}, "192.0.2.1:1")
	defer end(nil)
	release := must.Get(serving.Acquire(other, operations.BothSlots))(t)
	time.AfterFunc(3*idle, release)
	h := &handler{server: s.server.Core}
	untested := map[string]bool{"POST /write": true, "POST /api/v2/write": true, "GET /ping": true, "GET /health": true}
	for pattern := range h.endpoints() {
		untested[pattern] = true
	}
	var all sync.WaitGroup
	defer all.Wait()
	check := func(pattern, query, body, want string) {
		delete(untested, pattern)
		method, path, _ := strings.Cut(pattern, " ")
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r := s.request(ctx, method, strings.Replace(path, "{id}", "x", 1)+query, nil)
			if method == http.MethodPost {
				r = s.request(ctx, method, path+query, slowBody(body, idle))
			}
			if want == "401" {
				r.Header.Set("Authorization", "Bearer x")
			}
			a, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Errorf("%s%s: got no answer: %v", pattern, query, err)
				return
			}
			defer a.Body.Close()
			text, _ := bufio.NewReader(a.Body).ReadString('\n') // follow does not end
			if got := a.Status[:3]; got != want {
				t.Errorf("%s%s: got %s %s, want %s", pattern, query, got, text, want)
			}
		})
	}
	const id = "0123456789abcdef"
	check("GET /api/session", "", "", "200")
	check("POST /api/sign-in", "", `{"token": "`+s.token+`"}`, "200")
	check("POST /api/sign-out", "", `{}`, "200")
	check("GET /api/tree", "", "", "200")
	check("GET /api/table", "?bucket=B&table=t", "", "200")
	check("GET /api/rows", "?bucket=B&table=t", "", "200")
	check("GET /api/changes", "?bucket=B&table=t&format=csv", "", "200")
	check("GET /api/follow", "?bucket=B&table=t&every=1s", "", "200")
	check("GET /api/profile", "?bucket=B&table=t&column=x", "", "200")
	check("POST /api/query", "", `{"id": "`+id+`", "sql": "SELECT x FROM t", "bucket": "B"}`, "200")
	check("POST /api/cancel", "", `{"id": "`+id+`x"}`, "200")
	check("GET /api/query/{id}/error", "", "", "404")
	check("GET /api/download", "?bucket=B&table=t&format=csv", "", "200")
	check("POST /api/put", "?bucket=B&table=new&format=csv", "x\n1\n2\n", "200")
	check("POST /api/action", "", `{"action": "exec", "bucket": "B", "sql": "INSERT INTO t VALUES (2)"}`, "200")
	check("POST /write", "?db=B", "m v=1 1\n", "204")
	check("POST /write", "?db=B", "m v=x 1\n", "400")
	check("POST /write", "?db=B&p=x", "m v=1 1\n", "401")
	check("POST /api/v2/write", "?bucket=B", "n v=1 1\no v=1 1\n", "204")
	check("POST /api/put", "?bucket=B&table=new&format=csv", "x\n1\n2\n", "401")
	check("POST /api/v2/none", "", "m v=1 1\n", "404")
	check("GET /ping", "", "", "204")
	check("GET /health", "", "", "200")
	if len(untested) > 0 {
		t.Errorf("not tested: %v", untested)
	}
}
