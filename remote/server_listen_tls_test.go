package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
)

// authority returns a certificate authority, and a certificate that it issued for this machine.
func authority(t testing.TB, name string) (*nettest.Authority, *nettest.Pair) {
	t.Helper()
	ca := must.Get(nettest.NewAuthority(t.TempDir(), name))(t)
	pair := must.Get(ca.Issue("server", time.Hour, "127.0.0.1", "localhost"))(t)
	return ca, pair
}

func serveTLS(t testing.TB, store partd.Partd, config *tls.Config, opts *ServerOptions) string {
	t.Helper()
	s := must.Get(NewServer(store, opts))(t)
	l := must.Get(ListenTLS("tls://127.0.0.1:0", config))(t)
	go s.Serve(context.Background(), l)
	t.Cleanup(func() { must.Do(t, s.Shutdown(context.Background())) })
	return URL(l.Addr())
}

// TestTLS checks that clients that cannot verify the server, or do not use TLS, cannot connect, and that connections of
// peers that send nothing or garbage are closed.
func TestTLS(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	ca, pair := authority(t, "ours")
	other, foreign := authority(t, "another")
	expired := must.Get(ca.Issue("expired", -time.Hour, "127.0.0.1"))(t)
	wrongName := must.Get(ca.Issue("wrong name", time.Hour, "elsewhere.example"))(t)
	url := serveTLS(t, partd.NewDict(), &tls.Config{Certificates: []tls.Certificate{pair.TLS}}, &ServerOptions{HandshakeTimeout: 300 * time.Millisecond})
	if !strings.HasPrefix(url, "tls://127.0.0.1:") {
		t.Fatalf("the server's URL is %s, want tls://127.0.0.1:PORT", url)
	}
	c := dial(t, url, &ClientOptions{TLS: &tls.Config{RootCAs: ca.Pool}})
	large := strings.Repeat("0123456789abcdef", 1<<20) // more than a page
	must.Do(t, c.Append(ctx, entry("large", large), entry("small", "v")))
	if values := must.Get(c.Get(ctx, "small", "large"))(t); string(values[0]) != "v" || string(values[1]) != large {
		t.Errorf("Get = %q and %d bytes, want v and %d bytes", values[0], len(values[1]), len(large))
	}
	for name, config := range map[string]*tls.Config{
		"the system's authorities": nil,
		"another authority":        {RootCAs: other.Pool},
		"another name":             {RootCAs: ca.Pool, ServerName: "elsewhere.example"},
	} {
		if _, err := Dial(ctx, url, &ClientOptions{TLS: config}); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("Dial with %s = %v, want an error about the certificate", name, err)
		}
	}
	for name, bad := range map[string]*nettest.Pair{"expired": expired, "foreign": foreign, "for another name": wrongName} {
		url := serveTLS(t, partd.NewDict(), &tls.Config{Certificates: []tls.Certificate{bad.TLS}}, nil)
		if _, err := Dial(ctx, url, &ClientOptions{TLS: &tls.Config{RootCAs: ca.Pool}}); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("Dial to a server whose certificate is %s = %v, want an error about the certificate", name, err)
		}
	}
	address := strings.TrimPrefix(url, "tls://")
	if _, err := Dial(ctx, "tcp://"+address, nil); err == nil {
		t.Error("Dial without TLS succeeded")
	}
	if _, err := tls.Dial("tcp", address, &tls.Config{RootCAs: ca.Pool, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("Dial with TLS 1.2 succeeded")
	}
	for _, sent := range []string{"", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x07\xf0\x01" + strings.Repeat("like a ClientHello", 200)} {
		conn := must.Get(net.Dial("tcp", address))(t)
		must.Do(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		must.Get(io.WriteString(conn, sent))(t)
		if answer, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) || len(answer) > 64 {
			t.Errorf("the answer to a peer that sends %.40q is %d bytes, %v, want a closed connection", sent, len(answer), err)
		}
	}
}
