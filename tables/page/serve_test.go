package page

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// outOfDescriptors is a listener whose first Accept fails for lack of file descriptors.
type outOfDescriptors struct {
	net.Listener
	refused bool
}

func (l *outOfDescriptors) Accept() (net.Conn, error) {
	if !l.refused {
		l.refused = true
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// TestOutOfDescriptors checks that a server with TLS continues after it has run out of file descriptors.
func TestOutOfDescriptors(t *testing.T) {
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	e := listenTLSOrPlain(&outOfDescriptors{Listener: l}, &tls.Config{MinVersion: tls.VersionTLS13})
	defer e.Close()
	conn := must.Get(net.Dial("tcp", l.Addr().String()))(t)
	defer conn.Close()
	must.Get(conn.Write([]byte("G")))(t)
	if _, err := e.Accept(); err != nil {
		t.Error(err)
	}
}

// TestSecureCookie checks that the cookie has the attribute Secure if the request uses TLS.
func TestSecureCookie(t *testing.T) {
	s := serve(t, flightd.Options{Secret: secret})
	h := &handler{server: s.server.Core, opts: s.server.Options()}
	for _, state := range []*tls.ConnectionState{nil, {}} {
		w := httptest.NewRecorder()
		r := s.request(t.Context(), http.MethodPost, "/api/sign-out", nil)
		r.TLS = state
		h.setCookie(&request{Request: &serving.Request{Request: r, W: w}}, "a", 0)
		if c := w.Result().Cookies()[0]; c.Secure != (state != nil) {
			t.Errorf("TLS %v: got cookie %v, want Secure only with TLS", state != nil, c)
		}
	}
}

// TestLateError checks that a client receives the error of a request that fails after more than the idle timeout.
func TestLateError(t *testing.T) {
	const idle = 2 * time.Second
	s := serve(t, flightd.Options{IdleTimeout: idle})
	in, body := io.Pipe()
	go func() {
		for range 4 {
			_, _ = io.WriteString(body, "{\"x\":1}\n") // the request fails even if writing the body fails
			time.Sleep(idle / 3)
		}
		_, _ = io.WriteString(body, "{\n")
		_ = body.Close()
	}()
	a, text := s.do(s.request(t.Context(), http.MethodPost, "/api/put?table=t&format=jsonl", in))
	s.expect(a, text, 400, "the body, line 5: ")
}
