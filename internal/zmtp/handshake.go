package zmtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Role is the type of our socket.
type Role string

const (
	Router Role = "ROUTER" // for a server
	Dealer Role = "DEALER" // for a client
)

const (
	greetingLen = 64
	mechanism   = "NULL" // no authentication, no encryption
)

// Open does the handshake within a timeout; 0 means no limit. It returns what the peer
// has already sent after the handshake. It does not close the connection.
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
	// This is version 3.0: 0xff and 0x7f enclose the signature, and the rest is 0.
	greeting := [greetingLen]byte{0: 0xff, 9: 0x7f, 10: 3}
	copy(greeting[12:], mechanism)
	if _, err := out.Write(greeting[:]); err != nil {
		return err
	}
	if err := in.readGreeting(); err != nil {
		return err
	}
	// This package's servers pad the signature with zeros, libzmq with a length.
	if role == Dealer && [8]byte(in.buf[1:9]) != [8]byte{} {
		return ErrLibzmq
	}
	if _, err := out.Write(appendReady(nil, role)); err != nil {
		return err
	}
	return in.readReady()
}

// readGreeting checks the peer's greeting byte by byte as it arrives, so that the first
// byte already reveals a peer with another protocol.
func (r *Reader) readGreeting() error {
	for i := range greetingLen {
		if i == r.end {
			if err := r.fill(1, false); err != nil {
				return r.cutOff(err)
			}
		}
		switch c := r.buf[i]; {
		case i == 0 && c != 0xff:
			return protocolErrorf("its first byte is %#02x, a greeting begins with 0xff", c)
		case i == 9 && c != 0x7f:
			return protocolErrorf("byte 9 of its greeting is %#02x, the signature ends with 0x7f", c)
		case i == 10 && c < 3:
			return protocolErrorf("its greeting is of ZMTP %d, below 3", c)
		case i == 32 && c > 1:
			return protocolErrorf("byte 32 of its greeting is %#02x, not 0 or 1", c)
		}
	}
	r.pos = greetingLen
	if theirs, _, _ := bytes.Cut(r.buf[12:32], []byte{0}); string(theirs) != mechanism {
		return protocolErrorf("its mechanism is %q, not %s", theirs, mechanism)
	}
	return nil
}

// maxReadyLen is the maximum length of a command in the handshake. libzmq's READY has
// about 40 bytes.
const maxReadyLen = 4 << 10

func appendReady(b []byte, role Role) []byte {
	body := appendProperty(nil, "Socket-Type", string(role))
	return AppendCommand(b, "READY", appendProperty(body, "Identity", ""))
}

func appendProperty(b []byte, name, value string) []byte {
	b = append(append(b, byte(len(name))), name...)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(value))), value...)
}

// readReady reads the peer's READY, and trusts no length in it.
func (r *Reader) readReady() error {
	flags, n, header, err := r.parseHeader()
	switch {
	case errors.Is(err, ErrTooLarge):
		return protocolErrorf("%v", err)
	case err != nil:
		return r.cutOff(err)
	case flags&flagCommand == 0:
		return protocolErrorf("flags %#02x where a command should be", flags)
	}
	// The buffer grows only as far as READY needs, because no budget is charged.
	if missing := r.pos + header + n - len(r.buf); missing > 0 {
		r.buf = append(r.buf, make([]byte, missing)...)
	}
	frame, _, err := r.readFrame()
	if err != nil {
		return r.cutOff(err)
	}
	name, body, err := ParseCommand(frame)
	if err != nil {
		return err
	}
	if name == "ERROR" {
		return protocolErrorf("the peer refuses: %q", body)
	}
	if name != "READY" {
		return protocolErrorf("command %q where READY should be", name)
	}
	peerType, err := socketType(body)
	if err != nil {
		return err
	}
	// REQ and REP sockets would put an empty frame before each message.
	if peerType != string(Dealer) && peerType != string(Router) {
		return protocolErrorf("a socket of type %q, not DEALER or ROUTER", peerType)
	}
	return nil
}

// socketType returns the peer's socket type from the properties of READY.
func socketType(properties []byte) (kind string, err error) {
	hasType := false
	for b := properties; len(b) > 0; {
		n := int(b[0])
		if n == 0 || len(b) < 1+n+4 {
			return "", protocolErrorf("READY has a property that is cut off")
		}
		name := string(b[1 : 1+n])
		size := binary.BigEndian.Uint32(b[1+n:])
		b = b[1+n+4:]
		if uint64(size) > uint64(len(b)) {
			return "", protocolErrorf("READY has a property %q of %d bytes, but only %d came", name, size, len(b))
		}
		if strings.EqualFold(name, "Socket-Type") {
			if hasType {
				return "", protocolErrorf("READY names two socket types")
			}
			kind, hasType = string(b[:size]), true
		}
		b = b[size:]
	}
	if !hasType {
		return "", protocolErrorf("READY names no socket type")
	}
	return kind, nil
}
