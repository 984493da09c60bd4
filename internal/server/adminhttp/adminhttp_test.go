package adminhttp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

func TestStatus(t *testing.T) {
	h := WithStatus(Handler(func() error { return nil }, nil), "store log:<b>", "version devel")
	page := httptest.NewRecorder()
	h.ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/", nil))
	if want := "store log:&lt;b&gt; · version devel"; !strings.Contains(page.Body.String(), want) {
		t.Errorf("the page lacks %q", want)
	}
	for path, want := range map[string]string{"/": "text/html; charset=utf-8", "/healthz": "text/plain; charset=utf-8", "/nothing": "text/plain; charset=utf-8"} {
		out := httptest.NewRecorder()
		h.ServeHTTP(out, httptest.NewRequest(http.MethodGet, path, nil))
		if got := out.Header().Get("Content-Type"); got != want || (out.Code == http.StatusOK) == (path == "/nothing") {
			t.Errorf("GET %s = %d with type %s, want type %s", path, out.Code, got, want)
		}
	}
}

// TestManyConnections checks that idle connections do not use up descriptors, and that a new client is served.
func TestManyConnections(t *testing.T) {
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, Handler(func() error { return nil }, nil)) }()
	var open []net.Conn
	for range 3 * MaxConnections {
		conn := must.Get(net.Dial("tcp", l.Addr().String()))(t)
		defer conn.Close()
		open = append(open, conn)
	}
	r, err := http.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil || r.StatusCode != 200 {
		t.Fatalf("GET /healthz with many idle connections = %v, %v, want 200", r, err)
	}
	_ = r.Body.Close()
	stillOpen := 0
	for _, conn := range open {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			stillOpen++
		}
	}
	if stillOpen >= MaxConnections || stillOpen < MaxConnections/2 {
		t.Errorf("%d of %d idle connections are open, want less than %d", stillOpen, len(open), MaxConnections)
	}
	stop()
	must.Do(t, <-done)
}
