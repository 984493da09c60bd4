package remote

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/go-partd/partd"
)

// This file has the Go client's protocol. docs/dev/wire.md describes the fields of each
// operation. Numbers are little-endian.

const (
	protocolVersion = 2

	requestLen = 40 // length of a request's header, in bytes
	replyLen   = 16 // length of a reply's header, in bytes
)

// magic begins each message. The server also speaks the protocol of Python's partd, in which messages
// begin with a letter, so the first byte tells the two protocols apart.
var magic = [4]byte{0, 'P', 'D', '1'}

type operation uint8

const (
	opHello operation = 1 + iota
	opPing
	opSession
	opEndSession
	opAppend
	opSet
	opSetOnce
	opDelete
	opDrop
	opPop
	opPopRead
	opPopDone
	opGet
	opOpen
	opRead
	opKeys
	opScan
	opNext
	opCloseHandle
	opStat
	opFlush
	opSync
	_ // 23 is unused
	opVerify
	opKeepHandle
	opNamespaces
	lastOperation = opNamespaces
)

func (op operation) String() string {
	names := [...]string{
		"hello", "ping", "session", "end session", "append", "set", "set once", "delete", "drop", "pop", "pop read", "pop done",
		"get", "open", "read", "keys", "scan", "next", "close handle", "stat", "flush", "sync", "", "verify", "keep handle", "namespaces",
	}
	if op < opHello || op > lastOperation || names[op-1] == "" {
		return fmt.Sprintf("operation %d", uint8(op))
	}
	return names[op-1]
}

// isChange reports whether an operation is a change that can have a number in a session.
func (op operation) isChange() bool { return op >= opAppend && op <= opDrop }

// change returns the kind of a change. change and operationOf require the constants of operation and
// of partd.Change to be in the same order.
func (op operation) change() partd.Change { return partd.Change(op - opAppend) }

func operationOf(c partd.Change) operation { return opAppend + operation(c) }

// Flags of requests and replies.
const (
	flagResent = 2 // request: the same pop may have arrived before
	flagCount  = 4 // request: stat must also return the number of changes
	flagMore   = 1 // reply: more pages follow
	flagKnown  = 2 // reply: the change had already been applied

	statusOK    = 0
	statusError = 1
)

type request struct {
	op      operation
	flags   uint8
	number  uint64 // number of the request; 0 to request no reply
	session uint64
	seq     uint64 // number of the operation in the session
	crc     uint32 // checksum of operation and body

	// The server sets the fields below.
	arrived         time.Time
	user, namespace string // for the audit log: the connection's user and namespace when the request arrived
	received, keys  int64  // number of bytes and of keys
}

func (r request) append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, magic[:]...)
	b = append(b, uint8(r.op), r.flags, 0, 0)
	b = le.AppendUint64(b, r.number)
	b = le.AppendUint64(b, r.session)
	b = le.AppendUint64(b, r.seq)
	b = le.AppendUint32(b, r.crc)
	return append(b, 0, 0, 0, 0)
}

// isRequest reports whether a message's first frame belongs to the Go client's protocol.
func isRequest(frame []byte) bool {
	return len(frame) >= len(magic) && [4]byte(frame[:4]) == magic
}

func parseRequest(frame []byte) (r request, body []byte, err error) {
	if len(frame) < requestLen || !isRequest(frame) {
		return r, nil, fmt.Errorf("a request has %d bytes, less than its header of %d", len(frame), requestLen)
	}
	le := binary.LittleEndian
	r = request{
		op: operation(frame[4]), flags: frame[5], number: le.Uint64(frame[8:]),
		session: le.Uint64(frame[16:]), seq: le.Uint64(frame[24:]), crc: le.Uint32(frame[32:]),
	}
	if frame[6] != 0 || frame[7] != 0 || le.Uint32(frame[36:]) != 0 {
		return r, nil, fmt.Errorf("reserved bytes of a request are not 0")
	}
	return r, frame[requestLen:], nil
}

type reply struct {
	op     operation
	status uint8
	flags  uint8
	number uint64
}

func (r reply) append(b []byte) []byte {
	b = append(b, magic[:]...)
	b = append(b, uint8(r.op), r.status, r.flags, 0)
	return binary.LittleEndian.AppendUint64(b, r.number)
}

func parseReply(frame []byte) (r reply, body []byte, err error) {
	if len(frame) < replyLen || [4]byte(frame[:4]) != magic {
		return r, nil, fmt.Errorf("a message of %d bytes is not a reply", len(frame))
	}
	r = reply{op: operation(frame[4]), status: frame[5], flags: frame[6], number: binary.LittleEndian.Uint64(frame[8:])}
	return r, frame[replyLen:], nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum identifies a change: it is the CRC-32C of operation and body.
func checksum(op operation, body ...[]byte) uint32 {
	crc := crc32.Update(0, castagnoli, []byte{uint8(op)})
	for _, b := range body {
		crc = crc32.Update(crc, castagnoli, b)
	}
	return crc
}

// largeValue replaces a value's length in an answer to get. It means that a handle follows, through
// which the client must read the value.
const largeValue = math.MaxUint32
