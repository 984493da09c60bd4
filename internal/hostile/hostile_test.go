package hostile

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// serve runs a server that does with each connection what f does.
func serve(t *testing.T, f func(c net.Conn)) *Target {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
	return &Target{Network: "tcp", Address: l.Addr().String(), MaxMessage: 100_000, MaxConnections: 5, Patience: 60 * time.Millisecond}
}

// trusting greets, says READY, then takes whatever comes and acknowledges it, as
// if there were nothing to check.
func trusting(c net.Conn) {
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

// Every named conversation finds fault with a server that says nothing, and all
// but those that want an acknowledgement with one that takes everything.
func TestCasesSeeFaults(t *testing.T) {
	silent := serve(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	gullible := serve(t, trusting)
	for _, c := range Cases() {
		t.Run(fmt.Sprintf("%d %s", c.Number, c.Name), func(t *testing.T) {
			t.Parallel()
			if c.Run(t.Context(), silent) == nil {
				t.Error("a server that says nothing passes")
			}
			wantsAck := c.Number == 46 || c.Name == "endless empty messages"
			if c.Run(t.Context(), gullible) == nil && !wantsAck {
				t.Error("a server that takes everything passes")
			}
		})
	}
}

// A run notices that the honest peer is not served, is given another's value, or
// that the server is gone.
func TestRunSeesFaults(t *testing.T) {
	for name, target := range map[string]*Target{
		"silent":   serve(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }),
		"gullible": serve(t, trusting),
		"gone":     {Network: "tcp", Address: "127.0.0.1:1", Patience: time.Second},
	} {
		if r, err := Run(t.Context(), target, 1_000_000, 2, 1, 100*time.Millisecond, nil); err == nil {
			t.Errorf("%s: %d conversations, and nothing was noticed", name, r.Conversations)
		}
	}
}

// A conversation depends on its seed and its number alone.
func TestConversationsAreRepeatable(t *testing.T) {
	text := func(seed uint64) string {
		var b strings.Builder
		for _, p := range made(seed, 7).parts {
			b.Write(p)
		}
		return b.String()
	}
	different := 0
	for seed := range uint64(1000) {
		if first, second := text(seed), text(seed); first != second {
			t.Fatalf("seed %d makes two conversations", seed)
		}
		if text(seed) != text(seed+1) {
			different++
		}
	}
	if different < 900 {
		t.Errorf("of 1,000 conversations %d differ from the next", different)
	}
}
