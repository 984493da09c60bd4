package hostile

import (
	"context"
	"strings"
	"time"
)

// Target is the server that conversations are held with.
type Target struct {
	Network, Address string
	MaxMessage       int           // as the server was told, in bytes
	MaxConnections   int           // as the server was told; 0: too many to try
	Patience         time.Duration // how long the server may take to answer, or to give a peer up
}

// Case is a named conversation.
type Case struct {
	Name string
	Slow bool // the server gives the peer up after a while
	Run  func(ctx context.Context, t *Target) error
}

// Cases returns the named conversations.
func Cases() []Case {
	closedAfter := func(b ...[]byte) func(context.Context, *Target) error { return raw(false, b...) }
	openedThen := func(b ...[]byte) func(context.Context, *Target) error { return raw(true, b...) }
	command := func(flags byte, n int) []byte {
		return frame(flagCommand|flags, "\x04PING"+strings.Repeat("x", n))
	}
	readyBody := func(s string) []byte { return append(greeting(3, "NULL"), frame(flagCommand, "\x05READY"+s)...) }
	truth := property("Socket-Type", "DEALER")
	return []Case{
		{"lying frame length", false, openedThen(Message("append", "lied", "v"), lying(flagMore, 1<<40), make([]byte, 1000))},
		{"lying frame length, over the limit", false, func(ctx context.Context, t *Target) error {
			return raw(true, lying(0, uint64(t.MaxMessage)+4096), make([]byte, 1000))(ctx, t)
		}},
		{"frame of 2^64-1 bytes", false, openedThen(lying(0, 1<<64-1), make([]byte, 1000))},
		{"frame of 2^63 bytes", false, openedThen(lying(flagMore, 1<<63), make([]byte, 1000))},
		{"frame of 2^63-1 bytes, as a command", false, openedThen(lying(flagCommand, 1<<63-1))},
		{"READY of 2^63-1 bytes", false, closedAfter(greeting(3, "NULL"), lying(flagCommand, 1<<63-1), make([]byte, 1000))},
		{"truncated frame", false, truncated},
		{"endless MORE", false, endless("x")},
		{"endless empty frames", false, endless("")},
		{"endless empty messages", false, emptyMessages},
		{"reserved flags", false, openedThen([]byte{0xf8, 3, 's', 'y', 'n'})},
		{"one reserved flag", false, openedThen([]byte{0x08, 3, 's', 'y', 'n'})},
		{"command with MORE", false, openedThen(command(flagMore, 2))},
		{"oversized command", false, openedThen(command(0, 1<<16))},
		{"oversized READY", false, closedAfter(greeting(3, "NULL"), frame(flagCommand, "\x05READY"+truth+property("X-Long", strings.Repeat("x", 1<<20))))},
		{"command without a name", false, openedThen(frame(flagCommand, ""))},
		{"command with a lying name", false, openedThen(frame(flagCommand, "\xffPING"))},
		{"message before READY", false, closedAfter(greeting(3, "NULL"), Message("append", "early", "v"))},
		{"bad signature", false, closedAfter(append([]byte{0}, greeting(3, "NULL")[1:]...))},
		{"bad end of the signature", false, closedAfter(append([]byte("\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7e"), greeting(3, "NULL")[10:]...))},
		{"ZMTP 1", false, closedAfter([]byte("\x01\x00\x04\x00syn"), make([]byte, 64))},
		{"ZMTP 2", false, closedAfter(greeting(1, "NULL"))},
		{"ZMTP 0", false, closedAfter(greeting(0, "NULL"))},
		{"unknown mechanism", false, closedAfter(greeting(3, "KERBEROS"), ready("DEALER", ""))},
		{"mechanism not on offer", false, closedAfter(greeting(3, "CURVE"), ready("DEALER", ""))},
		{"mechanism without an end", false, closedAfter(greeting(3, strings.Repeat("N", 20)), ready("DEALER", ""))},
		{"READY with a lying value", false, closedAfter(readyBody("\x0bSocket-Type\xff\xff\xff\xffDEALER"))},
		{"READY with a value of 2^31", false, closedAfter(readyBody("\x0bSocket-Type\x80\x00\x00\x00DEALER"))},
		{"READY with a lying name", false, closedAfter(readyBody("\xffSocket-Type"))},
		{"READY that ends in a length", false, closedAfter(readyBody("\x0bSocket-Type\x00\x00"))},
		{"READY that is another command", false, closedAfter(greeting(3, "NULL"), frame(flagCommand, "\x05ERROR\x03bad"))},
		{"READY without a socket type", false, closedAfter(readyBody(""))},
		{"unknown socket type", false, closedAfter(greeting(3, "NULL"), ready("FROBNICATOR", ""))},
		{"empty socket type", false, closedAfter(readyBody(property("Socket-Type", "")))},
		{"two peers with one identity", false, oneIdentity},
		{"PING", false, ping},
		{"odd append frames", false, refusedWith("append", "odd", "v", "odd2")},
		{"append of a key without a value", false, refusedWith("append", "odd")},
		{"iset with one frame", false, refusedWith("iset", "odd")},
		{"iset with three frames", false, refusedWith("iset", "odd", "v", "w")},
		{"unknown command", false, refusedWith("frobnicate", "odd", "v")},
		{"a command's beginning", false, refusedWith("appen", "odd", "v")},
		{"empty command", false, refusedWith("", "odd", "v")},
		{"empty message", false, refusedWith("")},
		{"get of no keys", false, asks([]string{"ack"}, "get")},
		{"append of nothing", false, asks([]string{"ack"}, "append")},
		{"delete of nothing", false, asks([]string{"ack"}, "delete")},
		{"slow greeting", true, slowly(greeting(3, "NULL"))},
		{"no greeting", true, closedAfter(nil)},
		{"half a greeting", true, closedAfter(greeting(3, "NULL")[:30])},
		{"no READY", true, closedAfter(greeting(3, "NULL"))},
		{"message that stops half-way", true, openedThen(frame(flagMore, "append"), lying(flagMore, 1000), []byte("half"))},
		{"message without its last frame", true, openedThen(frame(flagMore, "append"), frame(flagMore, "k"))},
		{"header that stops half-way", true, openedThen(lying(0, 5)[:5])},
		{"peer that never reads", true, neverReads},
		{"too many connections", false, tooMany},
		{"close without the right", false, refusedWith("close")},
		{"HTTP", false, closedAfter([]byte("POST /partd HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"), make([]byte, 64))},
		{"TLS", false, closedAfter([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), []byte(strings.Repeat("\x5a\x13", 256)))},
		{"random bytes", false, closedAfter([]byte(strings.Repeat("\xa7\x01\x5e\xff\x00\x39\x7f\x02", 64)))},
		{"only 0xff", false, closedAfter([]byte(strings.Repeat("\xff", 512)))},
		{"only zeros", false, closedAfter(make([]byte, 512))},
	}
}
