package zmtp

import (
	"encoding/binary"
	"errors"
	"strings"
)

// maxReadyLen is the length of the longest command of a handshake taken. A READY
// of libzmq has about 40 bytes.
const maxReadyLen = 4 << 10

func appendReady(b []byte, role Role) []byte {
	body := appendProperty(nil, "Socket-Type", string(role))
	return AppendCommand(b, "READY", appendProperty(body, "Identity", ""))
}

func appendProperty(b []byte, name, value string) []byte {
	b = append(append(b, byte(len(name))), name...)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(value))), value...)
}

// ready reads the peer's READY, and trusts no length in it.
func (r *Reader) ready() error {
	flags, n, header, err := r.header()
	switch {
	case errors.Is(err, ErrTooLarge):
		return protocolErrorf("%v", err)
	case err != nil:
		return r.cutOff(err)
	case flags&flagCommand == 0:
		return protocolErrorf("flags %#02x where a command should be", flags)
	}
	// Room for READY and no more: no budget is charged with it.
	if missing := r.pos + header + n - len(r.buf); missing > 0 {
		r.buf = append(r.buf, make([]byte, missing)...)
	}
	frame, _, err := r.frame()
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
	kind, err := socketType(body)
	if err != nil {
		return err
	}
	// A REQ or a REP would put an empty frame before each message.
	if kind != string(Dealer) && kind != string(Router) {
		return protocolErrorf("a socket of type %q, not DEALER or ROUTER", kind)
	}
	return nil
}

// socketType returns the peer's socket type from the properties of READY.
func socketType(properties []byte) (kind string, err error) {
	found := false
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
			if found {
				return "", protocolErrorf("READY names two socket types")
			}
			kind, found = string(b[:size]), true
		}
		b = b[size:]
	}
	if !found {
		return "", protocolErrorf("READY names no socket type")
	}
	return kind, nil
}
