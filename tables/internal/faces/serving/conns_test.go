package serving

import (
	"net"
	"path/filepath"
	"testing"
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
		client, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close() //nolint:errcheck // the test is over
		server, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close() //nolint:errcheck // the test is over
		if n, host := conns.Count(), HostOf(server.RemoteAddr().String()); n != want || host != LocalHost {
			t.Errorf("%d connections are counted for host %s, want %d for %s", n, host, want, LocalHost)
		}
	}
}
