package zmtp

import (
	"fmt"
	"net"
	"time"
)

const (
	greetingLen = 64
	// maxHandshakeLen bounds what a peer may send before the connection is
	// open. A greeting and a READY of libzmq have about 110 bytes.
	maxHandshakeLen = 8 << 10
)

// Guard is the connection that the handshake runs over. It reads through a
// buffer, so that what a peer sends in steps takes few calls, looks at the
// greeting as it arrives, so that a peer of another protocol is known by its
// first byte, and bounds how much is read. What it read too much is left for
// the frames.
type Guard struct {
	net.Conn
	buf  []byte // read and not yet taken: buf[r:w]
	r, w int
	seen int // bytes that arrived
}

func newGuard(c net.Conn) *Guard { return &Guard{Conn: c, buf: make([]byte, 1<<10)} }

// Read reads what the peer sent, up to the limit.
func (g *Guard) Read(p []byte) (int, error) {
	if g.r == g.w {
		if g.seen >= maxHandshakeLen {
			return 0, protocolErrorf("more than %d bytes before the connection was open", maxHandshakeLen)
		}
		n, err := g.Conn.Read(g.buf[:min(len(g.buf), maxHandshakeLen-g.seen)])
		if n > 0 {
			if err := checkGreeting(g.buf[:n], g.seen); err != nil {
				return 0, err
			}
			g.seen += n
		}
		g.r, g.w = 0, n
		if n == 0 {
			return 0, err
		}
	}
	n := copy(p, g.buf[g.r:g.w])
	g.r += n
	return n, nil
}

// rest returns what was read and not taken.
func (g *Guard) rest() []byte { return g.buf[g.r:g.w] }

// checkGreeting looks at bytes of the greeting, the first of which is at an
// offset of it.
func checkGreeting(b []byte, offset int) error {
	for i, c := range b {
		switch at := offset + i; {
		case at == 0 && c != 0xff:
			return protocolErrorf("its first byte is %#02x, a greeting begins with 0xff", c)
		case at == 9 && c&1 == 0:
			return protocolErrorf("byte 9 of its greeting is %#02x, the signature ends with 0x7f", c)
		case at == 10 && c < 3:
			return protocolErrorf("its greeting is of ZMTP %d, 3 is the lowest", c)
		case at == 32 && c > 1:
			return protocolErrorf("byte 32 of its greeting is %#02x, not 0 or 1", c)
		case at >= greetingLen:
			return nil
		}
	}
	return nil
}

// Write writes all of p or fails.
func (g *Guard) Write(p []byte) (int, error) {
	n, err := g.Conn.Write(p)
	if err == nil && n < len(p) {
		return n, fmt.Errorf("wrote %d of %d bytes", n, len(p))
	}
	return n, err
}

// deadline bounds a handshake.
func (g *Guard) deadline(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	return g.SetDeadline(time.Now().Add(d))
}
