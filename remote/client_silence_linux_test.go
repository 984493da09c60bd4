package remote

import (
	"net"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestLimitedSilence checks that the kernel limits how long the server may acknowledge nothing.
func TestLimitedSilence(t *testing.T) {
	_, c := serveClient(t, partd.NewDict(), nil)
	nc := must.Get(c.dial(t.Context()))(t)
	defer nc.Close() //nolint:errcheck // nothing was sent
	raw := must.Get(nc.(*net.TCPConn).SyscallConn())(t)
	var milliseconds int
	var err error
	must.Do(t, raw.Control(func(fd uintptr) {
		milliseconds, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout)
	}))
	if err != nil || int64(milliseconds) != maxSilence.Milliseconds() {
		t.Errorf("TCP_USER_TIMEOUT = %d ms, error %v, want %v", milliseconds, err, maxSilence)
	}
}
