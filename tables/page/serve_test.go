package page

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
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
	must.Get(e.Accept())(t)
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

// clientAt returns a client with the given source address, and a timeout of one second.
func clientAt(address string) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Timeout: headerTimeout * 3 / 4, Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: func(ctx context.Context, network, a string) (net.Conn, error) { return d.DialContext(ctx, network, a) },
	}}
}

func (s *testServer) signIn(address, token string) (status int, err error) {
	r := s.request(s.t.Context(), http.MethodPost, "/api/sign-in", strings.NewReader(fmt.Sprintf(`{"token": %q}`, token)))
	a, err := clientAt(address).Do(r)
	if err != nil {
		return 0, err
	}
	return a.StatusCode, a.Body.Close()
}

// TestUnfinishedSignIns checks that unfinished sign-in requests do not block other sign-ins, even from the same
// address, and that they end at their time limit.
func TestUnfinishedSignIns(t *testing.T) {
	s := serve(t, flightd.Options{Secret: secret, IdleTimeout: time.Hour})
	token := s.withToken(flightd.Read).token
	var conns []net.Conn
	for range 300 {
		conn := must.Get(net.Dial("tcp", strings.TrimPrefix(s.url, "http://")))(t)
		defer conn.Close()
		_, _ = io.WriteString(conn, "POST /api/sign-in HTTP/1.1\r\nHost: localhost\r\nX-Partd: 1\r\nContent-Length: 1000\r\n\r\n{")
		conns = append(conns, conn)
	}
	time.Sleep(500 * time.Millisecond) // the server receives most of them
	for _, address := range []string{"127.0.0.2", "127.0.0.1", "127.0.0.3"} {
		if status, err := s.signIn(address, token); err != nil || status != http.StatusOK {
			t.Errorf("sign-in from %s: got status %d, error %v, want status 200", address, status, err)
		}
	}
	last := conns[len(conns)-1]
	began := time.Now()
	_ = last.SetReadDeadline(began.Add(2 * headerTimeout))
	go func() {
		for { // sending a byte from time to time must not extend the time limit
			if _, err := last.Write([]byte(" ")); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}()
	if _, err := io.ReadAll(last); err != nil && !strings.Contains(err.Error(), "reset") || time.Since(began) > headerTimeout+5*time.Second {
		t.Errorf("the last request lasted %s, want at most headerTimeout; error: %v", time.Since(began), err)
	}
	r := s.request(t.Context(), http.MethodGet, "/api/session", nil)
	r.Header.Set("X-Large", strings.Repeat("x", 40_000))
	if a, err := clientAt("127.0.0.1").Do(r); err == nil { // otherwise, the server closed the connection early
		if _ = a.Body.Close(); a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("headers of 40 KB: got status %d, want 431", a.StatusCode)
		}
	}
	if status, err := s.signIn("127.0.0.1", token+strings.Repeat("x", maxPublicBody)); err != nil || status != http.StatusRequestEntityTooLarge {
		t.Errorf("sign-in with a token of more than %d bytes: got %d, error %v, want status 413", maxPublicBody, status, err)
	}
}

// TestGuessedSignIns checks that guesses at tokens are slowed down only for their address. Clients at other addresses
// must be able to sign in, and clients with a verified token must stay signed in.
func TestGuessedSignIns(t *testing.T) {
	s := serve(t, flightd.Options{Secret: secret})
	verified, unverified := s.withToken(flightd.Admin).token, s.withToken(flightd.Read).token
	if status, err := s.signIn("127.0.0.1", verified); err != nil || status != http.StatusOK {
		t.Fatalf("sign-in: got status %d, error %v, want status 200", status, err)
	}
	answers := map[int]int{}
	for i := range 60 {
		answers[must.Get(s.signIn("127.0.0.1", fmt.Sprintf("%sx%d", unverified, i)))(t)]++
	}
	if answers[http.StatusUnauthorized] < 20 || answers[http.StatusTooManyRequests] < 10 {
		t.Errorf("60 guesses got these statuses: %v, want at least 20 times 401 and 10 times 429", answers)
	}
	for _, c := range [][2]string{{"127.0.0.2", unverified}, {"127.0.0.1", verified}} {
		if status, err := s.signIn(c[0], c[1]); err != nil || status != http.StatusOK {
			t.Errorf("sign-in from %s: got status %d, error %v, want status 200", c[0], status, err)
		}
	}
}

// TestUnfinishedRequests checks that two hosts whose clients have a token, and never finish their requests, leave
// slots for a third host.
func TestUnfinishedRequests(t *testing.T) {
	s := serve(t, flightd.Options{Secret: secret, IdleTimeout: time.Hour})
	reader := s.withToken(flightd.Read)
	for _, address := range []string{"127.0.0.2", "127.0.0.3"} {
		for range serving.MaxRequests/2 + 10 {
			conn := must.Get((&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).Dial("tcp", strings.TrimPrefix(s.url, "http://")))(t)
			defer conn.Close()
			_, _ = io.WriteString(conn, "POST /api/query HTTP/1.1\r\nHost: localhost\r\nX-Partd: 1\r\nAuthorization: Bearer "+reader.token+"\r\nContent-Length: 1000\r\n\r\n{")
		}
	}
	for _, address := range []string{"127.0.0.2", "127.0.0.3"} {
		must.Eventually(t, time.Minute, "the unfinished requests from "+address+" have not used all slots", func() bool {
			a := must.Get(clientAt(address).Do(reader.request(t.Context(), http.MethodGet, "/api/tree", nil)))(t)
			return must.Check(t, a.Body.Close()) && a.StatusCode == http.StatusTooManyRequests
		})
	}
	a, err := clientAt("127.0.0.4").Do(reader.request(t.Context(), http.MethodGet, "/api/tree", nil))
	must.Do(t, err)
	if _ = a.Body.Close(); a.StatusCode != http.StatusOK {
		t.Errorf("request from a third host: got status %d, want 200", a.StatusCode)
	}
}

// TestLargeBodies checks that large JSON bodies have separate slots. A host that never finishes its bodies must get no
// more slots, but other hosts and small bodies must still be served.
func TestLargeBodies(t *testing.T) {
	s := serve(t, flightd.Options{Secret: secret, IdleTimeout: time.Hour})
	reader := s.withToken(flightd.Read)
	large := queryBody("SELECT 1 --" + strings.Repeat("x", largeBody))
	for range serving.MaxLargeRequests/4 + 4 {
		conn := must.Get((&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}}).Dial("tcp", strings.TrimPrefix(s.url, "http://")))(t)
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "POST /api/query HTTP/1.1\r\nHost: localhost\r\nX-Partd: 1\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", reader.token, len(large)+1, large)
	}
	must.Eventually(t, time.Minute, "the unfinished bodies have not used all slots of the host", func() bool {
		a := must.Get(clientAt("127.0.0.2").Do(reader.request(t.Context(), http.MethodPost, "/api/query", strings.NewReader(large))))(t)
		return must.Check(t, a.Body.Close()) && a.StatusCode == http.StatusTooManyRequests
	})
	for _, c := range []struct {
		address, body string
		want          int
	}{
		{"127.0.0.2", queryBody("SELECT 1"), http.StatusOK},
		{"127.0.0.3", large, http.StatusOK},
	} {
		a := must.Get(clientAt(c.address).Do(reader.request(t.Context(), http.MethodPost, "/api/query", strings.NewReader(c.body))))(t)
		if _ = a.Body.Close(); a.StatusCode != c.want {
			t.Errorf("body of %d bytes from %s: got status %d, want %d", len(c.body), c.address, a.StatusCode, c.want)
		}
	}
}
