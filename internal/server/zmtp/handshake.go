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

// Role is the ZeroMQ socket type that this end of the connection announces.
type Role string

const (
	Router Role = "ROUTER" // announced by a server
	Dealer Role = "DEALER" // announced by a client
)

const (
	greetingLen = 64
	mechanism   = "NULL" // no authentication, no encryption
)

// Open performs the handshake on c. If it fails, the caller must close c. rest holds the bytes that
// Open has read beyond the handshake. A timeout of 0 means no limit.
func Open(c net.Conn, role Role, timeout time.Duration) (rest []byte, err error) {
	if timeout > 0 {
		if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
			return nil, err
		}
	}
	r := NewReader(c, nil, ReaderOptions{MaxMessage: maxHeaderLen + maxReadyLen, MaxFrames: 1})
	r.maxCommand = maxReadyLen
	if err := handshake(c, r, role); err != nil {
		return nil, fmt.Errorf("cannot open a ZMTP connection: %w", err)
	}
	return r.buf[r.pos:r.end], c.SetDeadline(time.Time{})
}

func handshake(out io.Writer, in *Reader, role Role) error {
	// A greeting of version 3.0: 0xff and 0x7f enclose the signature.
	greeting := [greetingLen]byte{0: 0xff, 9: 0x7f, 10: 3}
	copy(greeting[12:], mechanism)
	if _, err := out.Write(greeting[:]); err != nil {
		return err
	}
	if err := in.readGreeting(); err != nil {
		return err
	}
	// Between 0xff and 0x7f, partd-server sends zeros, but libzmq sends a length.
	if role == Dealer && [8]byte(in.buf[1:9]) != [8]byte{} {
		return ErrLibzmq
	}
	if _, err := out.Write(appendReady(nil, role)); err != nil {
		return err
	}
	return in.readReady()
}

// readGreeting checks each byte of the peer's greeting as it arrives, so that a peer that speaks
// another protocol is detected at its first byte.
func (r *Reader) readGreeting() error {
	for i := range greetingLen {
		if i == r.end {
			if err := r.fill(1, false); err != nil {
				return r.wrapEOF(err)
			}
		}
		c := r.buf[i]
		switch {
		case i == 0 && c != 0xff:
			return protocolErrorf("the first byte of the greeting is %#02x, not 0xff", c)
		case i == 9 && c != 0x7f:
			return protocolErrorf("byte 9 of the greeting is %#02x, not 0x7f", c)
		case i == 10 && c < 3:
			return protocolErrorf("the greeting says ZMTP %d, but at least version 3 is required", c)
		case i == 32 && c > 1:
			return protocolErrorf("byte 32 of the greeting is %#02x, not 0 or 1", c)
		}
	}
	r.pos = greetingLen
	if peerMechanism, _, _ := bytes.Cut(r.buf[12:32], []byte{0}); string(peerMechanism) != mechanism {
		return protocolErrorf("the mechanism is %q, not %s", peerMechanism, mechanism)
	}
	return nil
}

// maxReadyLen is the maximum length of a handshake command in bytes. libzmq's READY has about 40.
const maxReadyLen = 4 << 10

func appendReady(b []byte, role Role) []byte {
	body := appendProperty(nil, "Socket-Type", string(role))
	return AppendCommand(b, "READY", appendProperty(body, "Identity", ""))
}

func appendProperty(b []byte, name, value string) []byte {
	b = append(append(b, byte(len(name))), name...)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(value))), value...)
}

// readReady reads the peer's READY command. It limits all lengths, because the peer is not trusted.
func (r *Reader) readReady() error {
	flags, n, header, err := r.parseHeader()
	switch {
	case errors.Is(err, ErrTooLarge):
		return protocolErrorf("%v", err)
	case err != nil:
		return r.wrapEOF(err)
	case flags&flagCommand == 0:
		return protocolErrorf("a frame with flags %#02x instead of a command", flags)
	}
	// Grow the buffer only as far as necessary, because its memory is not charged to a budget.
	if missing := r.pos + header + n - len(r.buf); missing > 0 {
		r.buf = append(r.buf, make([]byte, missing)...)
	}
	frame, _, err := r.readFrame()
	if err != nil {
		return r.wrapEOF(err)
	}
	name, body, err := ParseCommand(frame)
	if err != nil {
		return err
	}
	if name == "ERROR" {
		return protocolErrorf("the peer refused the connection: %q", body)
	}
	if name != "READY" {
		return protocolErrorf("a command %q instead of READY", name)
	}
	peerType, err := socketType(body)
	if err != nil {
		return err
	}
	// Other socket types, such as REQ, are not supported: they put an empty frame before each message.
	if peerType != string(Dealer) && peerType != string(Router) {
		return protocolErrorf("the socket type %q instead of DEALER or ROUTER", peerType)
	}
	return nil
}

func socketType(properties []byte) (kind string, err error) {
	hasType := false
	for b := properties; len(b) > 0; {
		n := int(b[0])
		if n == 0 || len(b) < 1+n+4 {
			return "", protocolErrorf("READY contains an incomplete property")
		}
		name := string(b[1 : 1+n])
		size := binary.BigEndian.Uint32(b[1+n:])
		b = b[1+n+4:]
		if uint64(size) > uint64(len(b)) {
			return "", protocolErrorf("READY contains a property %q of %d bytes, of which only %d arrived", name, size, len(b))
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
