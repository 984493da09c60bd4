package flightd

import (
	"net"
	"path/filepath"
	"testing"
)

// Connections to a Unix socket have no address. They are counted separately, under one host.
func TestLocalConnections(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Skip(err) // the path may be too long
	}
	all := newConnections(2)
	counted := all.listener(l)
	defer counted.Close() //nolint:errcheck // the test is over
	for want := 1; want <= 2; want++ {
		client, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close() //nolint:errcheck // the test is over
		server, err := counted.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close() //nolint:errcheck // the test is over
		if n, host := all.count(), hostOf(server.RemoteAddr()); n != want || host != localHost {
			t.Errorf("%d connections of %s, want %d", n, host, want)
		}
	}
}
