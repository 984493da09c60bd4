// Package zmtp implements ZMTP 3 (rfc.zeromq.org/spec/23 and 37), the protocol of ZeroMQ sockets,
// on a single connection.
//
// [Open] performs the handshake with the mechanism NULL and limits its size and time. After that,
// [Reader] reads frames without an allocation for each frame. To write, use [AppendHeader] and
// vectored writes.
package zmtp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	flagMore     = 1
	flagLong     = 2
	flagCommand  = 4
	flagReserved = ^byte(flagMore | flagLong | flagCommand)
)

const maxHeaderLen = 9 // flags and a length of 8 bytes

// maxCommandLen is the maximum length of a command after the handshake, in bytes. ZMTP's commands
// have at most 24.
const maxCommandLen = 512

// ErrProtocol means that the peer sent bytes that are not ZMTP or not allowed. The connection must
// be closed.
var ErrProtocol = errors.New("the peer violates the ZMTP protocol")

// ErrTooLarge means that a message exceeds a limit.
var ErrTooLarge = errors.New("the message is too large")

// ErrLibzmq means that the server uses libzmq, so it is not a partd-server. It may be Python's
// partd.Server, which crashes when it receives an unknown request.
var ErrLibzmq = errors.New("the server uses libzmq and may be Python's partd.Server, which has another protocol: use the address of a partd-server")

func protocolErrorf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// AppendHeader appends the header of a frame of n bytes. If more is true, another frame of the
// message follows.
func AppendHeader(b []byte, n int, more bool) []byte {
	var flags byte
	if more {
		flags = flagMore
	}
	return appendHeader(b, flags, n)
}

func appendHeader(b []byte, flags byte, n int) []byte {
	if n < 256 {
		return append(b, flags, byte(n))
	}
	return binary.BigEndian.AppendUint64(append(b, flags|flagLong), uint64(n))
}

// AppendFrame appends a frame with its header.
func AppendFrame(b, body []byte, more bool) []byte {
	return append(AppendHeader(b, len(body), more), body...)
}

// AppendCommand appends a command frame. The name must have 1 to 255 bytes.
func AppendCommand(b []byte, name string, body []byte) []byte {
	b = appendHeader(b, flagCommand, 1+len(name)+len(body))
	b = append(b, byte(len(name)))
	b = append(b, name...)
	return append(b, body...)
}

// ParseCommand splits a command frame into the command's name and body.
func ParseCommand(frame []byte) (name string, body []byte, err error) {
	if len(frame) == 0 || frame[0] == 0 || len(frame) < 1+int(frame[0]) {
		return "", nil, protocolErrorf("a command of %d bytes with an incomplete name", len(frame))
	}
	n := 1 + int(frame[0])
	return string(frame[1:n]), frame[n:], nil
}

// Pong returns the answer to a command, or nil if it needs no answer. A PING consists of a time to
// live (2 bytes) and a context (up to 16 bytes), which the PONG repeats.
func Pong(command []byte) ([]byte, error) {
	name, body, err := ParseCommand(command)
	if err != nil {
		return nil, err
	}
	switch name {
	case "PING":
		if len(body) < 2 || len(body) > 2+16 {
			return nil, protocolErrorf("a PING of %d bytes instead of 2 to 18", len(body))
		}
		return AppendCommand(nil, "PONG", body[2:]), nil
	case "ERROR":
		return nil, protocolErrorf("the peer sent ERROR %q", body)
	case "READY":
		return nil, protocolErrorf("a second READY")
	}
	return nil, nil // other commands, such as PONG and SUBSCRIBE, need no answer
}
