package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
)

func TestURLs(t *testing.T) {
	for _, bad := range []string{
		"", "x", "tcp:", "tcp://", "tcp://host", "tcp://host:", "tcp://:80/x/y", "tcp://h:80/", "tls://h:80/..", "tcp://u@h:1", "ipc://", "ipc://%zz", "ipc://a%00b", "http://x:1", "TCP://x:1",
		"tls://h:1/n?token=hush", "tls://u:hush@h:1", "tls://u:hu/hush@h:1", "tcp://h:1?password=hush", "tls://h/x?token=hush",
	} {
		if err := CheckURL(bad); err == nil || !strings.Contains(err.Error(), "write ") || strings.Contains(err.Error(), "hush") {
			t.Errorf("CheckURL(%q) = %v, want an error that shows valid URLs, and no secret", bad, err)
		}
		if _, err := Listen(bad); err == nil {
			t.Errorf("Listen(%q) succeeded", bad)
		}
		if _, err := Dial(context.Background(), bad, nil); err == nil {
			t.Errorf("Dial(%q) succeeded", bad)
		}
	}
	for url, want := range map[string]address{
		"tcp://127.0.0.1:7077": {"tcp", "127.0.0.1:7077", "", false}, "tcp://*:1": {"tcp", ":1", "", false}, "tls://[::1]:2/a.b": {"tcp", "[::1]:2", "a.b", true},
		"ipc:///a/b%3F": {"unix", "/a/b?", "", false}, "ipc://relative": {"unix", "relative", "", false},
	} {
		if got, err := parseURL(url); got != want || err != nil {
			t.Errorf("parseURL(%q) = %v, %v, want %v", url, got, err, want)
		}
	}
}

// TestSocketFiles checks that Listen replaces a stale socket, but neither a socket in use nor a file.
func TestSocketFiles(t *testing.T) {
	dir := must.Get(os.MkdirTemp("", "partd"))(t) // short: the length of a socket's path is limited
	t.Cleanup(func() { must.Do(t, os.RemoveAll(dir)) })
	path := filepath.Join(dir, "s")
	l := must.Get(Listen("ipc://" + path))(t)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v, %v, want 0600", info.Mode(), err)
	}
	must.Fail(t, must.Err(Listen("ipc://"+path)), syscall.EADDRINUSE, "Listen on a socket in use")
	must.Do(t, l.(*unixListener).Listener.Close()) // leaves the socket file, as kill -9 does
	must.Get(os.Stat(path))(t)
	l = must.Get(Listen("ipc://" + path))(t)
	s := must.Get(NewServer(partd.NewDict(), nil))(t)
	go s.Serve(context.Background(), l)
	c := dial(t, URL(l.Addr()), nil)
	must.Do(t, c.Append(context.Background(), partd.Entry{Key: "k", Value: []byte("v")}))
	must.Do(t, c.Close())
	must.Do(t, s.Shutdown(context.Background()))
	must.Fail(t, must.Err(os.Lstat(path)), os.ErrNotExist, "Lstat of the socket after Shutdown")
	l = must.Get(Listen("ipc://" + path))(t)
	must.Do(t, os.Rename(path, path+"2"))
	other := must.Get(Listen("ipc://" + path))(t)
	must.Do(t, l.Close())
	if _, err := net.Dial("unix", path); err != nil {
		t.Errorf("Dial after closing the listener whose socket was replaced: %v", err)
	}
	must.Do(t, other.Close())
	must.Do(t, os.WriteFile(path, []byte("a file"), 0o600))
	must.Fail(t, must.Err(Listen("ipc://"+path)), "not a socket", "Listen on a file")
	if b, err := os.ReadFile(path); string(b) != "a file" {
		t.Errorf("Listen changed the file: %q, %v", b, err)
	}
}

// TestLockedDirectory checks that Listen does not wait forever for a directory that another process keeps locked.
func TestLockedDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := must.Get(os.Open(dir))(t)
	defer f.Close()
	must.Do(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	done := make(chan error, 1)
	go func() {
		l, err := Listen("ipc://" + dir + "/s")
		if err == nil {
			err = l.Close()
		}
		done <- err
	}()
	err := must.Receive(t, done, 4*lockTimeout, "Listen returns after its time limit")
	must.Fail(t, err, syscall.EWOULDBLOCK, "Listen in a locked directory")
}

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
		must.Fail(t, must.Err(Dial(ctx, url, &ClientOptions{TLS: config})), "certificate", "Dial with %s", name)
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
