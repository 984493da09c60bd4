package zmtp

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"time"
)

// Role is the type of our socket.
type Role string

// The roles.
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
	// What a peer sends in steps takes few calls. Nothing is read beyond READY
	// but what is in this buffer then.
	in := bufio.NewReaderSize(c, 1<<10)
	if err := open(c, in, role); err != nil {
		return nil, fmt.Errorf("no ZMTP connection: %w", err)
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return in.Peek(in.Buffered())
}

func open(out io.Writer, in *bufio.Reader, role Role) error {
	// Of version 3.0: 0xff and 0x7f enclose the signature, the rest is 0.
	greeting := [greetingLen]byte{0: 0xff, 9: 0x7f, 10: 3}
	copy(greeting[12:], mechanism)
	if _, err := out.Write(greeting[:]); err != nil {
		return err
	}
	if err := readGreeting(in); err != nil {
		return err
	}
	if _, err := out.Write(appendReady(nil, role)); err != nil {
		return err
	}
	return readReady(in)
}

// readGreeting looks at the peer's greeting as it arrives, so that a peer of
// another protocol is known by its first byte.
func readGreeting(in *bufio.Reader) error {
	var greeting [greetingLen]byte
	for at := range greetingLen {
		c, err := in.ReadByte()
		switch {
		case err == io.EOF && at > 0:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case at == 0 && c != 0xff:
			return protocolErrorf("its first byte is %#02x, a greeting begins with 0xff", c)
		case at == 9 && c&1 == 0:
			return protocolErrorf("byte 9 of its greeting is %#02x, the signature ends with 0x7f", c)
		case at == 10 && c < 3:
			return protocolErrorf("its greeting is of ZMTP %d, 3 is the lowest", c)
		case at == 32 && c > 1:
			return protocolErrorf("byte 32 of its greeting is %#02x, not 0 or 1", c)
		}
		greeting[at] = c
	}
	if theirs, _, _ := bytes.Cut(greeting[12:32], []byte{0}); string(theirs) != mechanism {
		return protocolErrorf("its mechanism is %q, it should be %s", theirs, mechanism)
	}
	return nil
}
