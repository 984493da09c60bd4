package nettest

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestProxy checks that the proxy cuts connections that reach their limit, and no others.
func TestProxy(t *testing.T) {
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	go func() { // echoes what it receives
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	var isStopped atomic.Bool
	p := must.Get(NewProxy("tcp", l.Addr().String(), func() int64 {
		if isStopped.Load() {
			return CutNever()
		}
		return CutAnywhere()
	}))(t)
	const sent = 300_000 // more than any connection forwards before a cut
	echo := func() int64 {
		c := must.Get(net.Dial("tcp", strings.TrimPrefix(p.URL(), "tcp://")))(t)
		defer c.Close()
		must.Do(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		go func() { _, _ = c.Write(make([]byte, sent)) }() // may be cut
		n, _ := io.Copy(io.Discard, io.LimitReader(c, sent))
		return n
	}
	for n := range int64(50) {
		if got := echo(); got == sent || p.Cuts() != n+1 {
			t.Fatalf("connection %d returned %d of %d bytes, and %d connections were cut", n, got, sent, p.Cuts())
		}
	}
	isStopped.Store(true)
	if got := echo(); got != sent || p.Cuts() != 50 {
		t.Fatalf("without a limit, a connection returned %d bytes, want %d; %d connections were cut, want 50", got, sent, p.Cuts())
	}
	must.Do(t, p.Close())
}
