package hostile

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// serve runs a server that calls f with each connection.
func serve(t *testing.T, f func(c net.Conn)) *Target {
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return &Target{Network: "tcp", Address: l.Addr().String(), Patience: 60 * time.Millisecond}
}

// acceptAll performs the handshake and acknowledges everything without checks.
func acceptAll(c net.Conn) {
	if _, err := c.Write(append(greeting(3, "NULL"), ready("ROUTER", "")...)); err != nil {
		return
	}
	buf := make([]byte, 64<<10)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
		if _, err := c.Write(Message("ack")); err != nil {
			return
		}
	}
}

// TestRunDetectsFaults checks that Run fails if the honest peer is not served or gets wrong values, or if the server is
// down.
func TestRunDetectsFaults(t *testing.T) {
	for name, target := range map[string]*Target{
		"silent":   serve(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }),
		"gullible": serve(t, acceptAll),
		"down":     {Network: "tcp", Address: "127.0.0.1:1", Patience: time.Second},
	} {
		if r, err := Run(t.Context(), target, 1_000_000, 2, 1, 100*time.Millisecond, nil); err == nil {
			t.Errorf("%s server: Run returned no error after %d conversations", name, r.Conversations)
		}
	}
}

// TestConversationsAreRepeatable checks that a conversation depends only on its seed and number.
func TestConversationsAreRepeatable(t *testing.T) {
	text := func(seed uint64) string { return string(bytes.Join(newConversation(seed, 7).parts, nil)) }
	differing := 0
	for seed := range uint64(1000) {
		if first, second := text(seed), text(seed); first != second {
			t.Fatalf("seed %d gives two different conversations", seed)
		}
		if text(seed) != text(seed+1) {
			differing++
		}
	}
	if differing < 900 {
		t.Errorf("only %d of 1,000 conversations differ from the next one", differing)
	}
}
