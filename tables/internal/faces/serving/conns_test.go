package serving

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestLocalConnections checks that connections to a Unix socket, which have no address, are counted separately,
// under one host.
func TestLocalConnections(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Skip(err) // the path may be too long
	}
	conns := newConnections(2)
	listener := conns.Listener(l)
	defer listener.Close() //nolint:errcheck // the test is over
	for want := 1; want <= 2; want++ {
		client := must.Get(net.Dial("unix", path))(t)
		defer client.Close() //nolint:errcheck // the test is over
		server := must.Get(listener.Accept())(t)
		defer server.Close() //nolint:errcheck // the test is over
		if n, host := conns.Count(), HostOf(server.RemoteAddr().String()); n != want || host != LocalHost {
			t.Errorf("%d connections are counted for host %s, want %d for %s", n, host, want, LocalHost)
		}
	}
}

// TestSamePort checks that connections from one port to two listeners are counted separately.
func TestSamePort(t *testing.T) {
	conns := newConnections(100)
	var accepted []net.Conn
	for port := range 2 {
		server, client := net.Pipe()
		defer client.Close() //nolint:errcheck // the test is over
		local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
		accepted = append(accepted, conns.admit(addressedConn{server, local}))
	}
	if n, want := conns.Hosts()["127.0.0.1"], (HostUsage{Open: 2, Strangers: 2}); n != want {
		t.Errorf("counts of two connections from one port: %+v, want %+v", n, want)
	}
	conns.markKnown(WithConnection(context.Background(), accepted[0]))
	if n, want := conns.Hosts()["127.0.0.1"], (HostUsage{Open: 2, Strangers: 1}); n != want {
		t.Errorf("counts after the first one's client sent a token: %+v, want %+v", n, want)
	}
	for _, conn := range accepted {
		_ = conn.Close()
	}
	if n := conns.Hosts(); len(n) > 0 {
		t.Errorf("counts after both are closed: %+v, want none", n)
	}
}

// addressedConn is a connection from 127.0.0.1:1000.
type addressedConn struct {
	net.Conn
	local *net.TCPAddr
}

func (c addressedConn) LocalAddr() net.Addr { return c.local }

func (c addressedConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1000}
}
