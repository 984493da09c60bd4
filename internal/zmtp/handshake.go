package zmtp

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"time"
)

// Role is the type of our socket.
type Role string

const (
	Router Role = "ROUTER" // of a server
	Dealer Role = "DEALER" // of a client
)

const (
	greetingLen = 64
	mechanism   = "NULL" // no authentication, no encryption
)

// Open does the handshake over a connection, within a time: greetings, then
// READY. It returns what the peer sent already beyond it. It does not close the
// connection.
func Open(c net.Conn, role Role, timeout time.Duration) (rest []byte, err error) {
	if timeout > 0 {
		if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
			return nil, err
		}
	}
	r := NewReader(c, nil, ReaderOptions{MaxMessage: maxHeaderLen + maxReadyLen, MaxFrames: 1})
	r.maxCommand = maxReadyLen
	if err := handshake(c, r, role); err != nil {
		return nil, fmt.Errorf("no ZMTP connection: %w", err)
	}
	return r.buf[r.pos:r.end], c.SetDeadline(time.Time{})
}

func handshake(out io.Writer, in *Reader, role Role) error {
	// Of version 3.0: 0xff and 0x7f enclose the signature, the rest is 0.
	greeting := [greetingLen]byte{0: 0xff, 9: 0x7f, 10: 3}
	copy(greeting[12:], mechanism)
	if _, err := out.Write(greeting[:]); err != nil {
		return err
	}
	if err := in.greeting(); err != nil {
		return err
	}
	// Servers of ours pad the signature with zeros, libzmq with a length.
	if role == Dealer && [8]byte(in.buf[1:9]) != [8]byte{} {
		return ErrLibzmq
	}
	if _, err := out.Write(appendReady(nil, role)); err != nil {
		return err
	}
	return in.ready()
}

// greeting looks at the peer's greeting as it arrives, so that a peer of another
// protocol is known by its first byte.
func (r *Reader) greeting() error {
	for at := range greetingLen {
		if at == r.end {
			if err := r.fill(1, false); err != nil {
				return r.cutOff(err)
			}
		}
		switch c := r.buf[at]; {
		case at == 0 && c != 0xff:
			return protocolErrorf("its first byte is %#02x, a greeting begins with 0xff", c)
		case at == 9 && c != 0x7f:
			return protocolErrorf("byte 9 of its greeting is %#02x, the signature ends with 0x7f", c)
		case at == 10 && c < 3:
			return protocolErrorf("its greeting is of ZMTP %d, below 3", c)
		case at == 32 && c > 1:
			return protocolErrorf("byte 32 of its greeting is %#02x, not 0 or 1", c)
		}
	}
	r.pos = greetingLen
	if theirs, _, _ := bytes.Cut(r.buf[12:32], []byte{0}); string(theirs) != mechanism {
		return protocolErrorf("its mechanism is %q, not %s", theirs, mechanism)
	}
	return nil
}
