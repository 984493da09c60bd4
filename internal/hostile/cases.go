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

// Case is a named conversation. Its number is that of the list of bad input.
type Case struct {
	Number int
	Name   string
	Slow   bool // the server gives the peer up after a while
	Run    func(ctx context.Context, t *Target) error
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
		{26, "lying frame length", false, openedThen(Message("append", "lied", "v"), lying(flagMore, 1<<40), make([]byte, 1000))},
		{26, "lying frame length, over the limit", false, func(ctx context.Context, t *Target) error {
			return raw(true, lying(0, uint64(t.MaxMessage)+4096), make([]byte, 1000))(ctx, t)
		}},
		{27, "frame of 2^64-1 bytes", false, openedThen(lying(0, 1<<64-1), make([]byte, 1000))},
		{27, "frame of 2^63 bytes", false, openedThen(lying(flagMore, 1<<63), make([]byte, 1000))},
		{27, "frame of 2^63-1 bytes, as a command", false, openedThen(lying(flagCommand, 1<<63-1))},
		{27, "READY of 2^63-1 bytes", false, closedAfter(greeting(3, "NULL"), lying(flagCommand, 1<<63-1), make([]byte, 1000))},
		{28, "truncated frame", false, truncated},
		{29, "endless MORE", false, endless("x")},
		{30, "endless empty frames", false, endless("")},
		{30, "endless empty messages", false, emptyMessages},
		{31, "reserved flags", false, openedThen([]byte{0xf8, 3, 's', 'y', 'n'})},
		{31, "one reserved flag", false, openedThen([]byte{0x08, 3, 's', 'y', 'n'})},
		{32, "command with MORE", false, openedThen(command(flagMore, 2))},
		{33, "oversized command", false, openedThen(command(0, 1<<16))},
		{33, "oversized READY", false, closedAfter(greeting(3, "NULL"), frame(flagCommand, "\x05READY"+truth+property("X-Long", strings.Repeat("x", 1<<20))))},
		{33, "command without a name", false, openedThen(frame(flagCommand, ""))},
		{33, "command with a lying name", false, openedThen(frame(flagCommand, "\xffPING"))},
		{34, "message before READY", false, closedAfter(greeting(3, "NULL"), Message("append", "early", "v"))},
		{35, "bad signature", false, closedAfter(append([]byte{0}, greeting(3, "NULL")[1:]...))},
		{35, "bad end of the signature", false, closedAfter(append([]byte("\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7e"), greeting(3, "NULL")[10:]...))},
		{36, "ZMTP 1", false, closedAfter([]byte("\x01\x00\x04\x00syn"), make([]byte, 64))},
		{36, "ZMTP 2", false, closedAfter(greeting(1, "NULL"))},
		{36, "ZMTP 0", false, closedAfter(greeting(0, "NULL"))},
		{37, "unknown mechanism", false, closedAfter(greeting(3, "KERBEROS"), ready("DEALER", ""))},
		{37, "mechanism not on offer", false, closedAfter(greeting(3, "CURVE"), ready("DEALER", ""))},
		{37, "mechanism without an end", false, closedAfter(greeting(3, strings.Repeat("N", 20)), ready("DEALER", ""))},
		{38, "READY with a lying value", false, closedAfter(readyBody("\x0bSocket-Type\xff\xff\xff\xffDEALER"))},
		{38, "READY with a value of 2^31", false, closedAfter(readyBody("\x0bSocket-Type\x80\x00\x00\x00DEALER"))},
		{38, "READY with a lying name", false, closedAfter(readyBody("\xffSocket-Type"))},
		{38, "READY that ends in a length", false, closedAfter(readyBody("\x0bSocket-Type\x00\x00"))},
		{38, "READY that is another command", false, closedAfter(greeting(3, "NULL"), frame(flagCommand, "\x05ERROR\x03bad"))},
		{38, "READY without a socket type", false, closedAfter(readyBody(""))},
		{39, "unknown socket type", false, closedAfter(greeting(3, "NULL"), ready("FROBNICATOR", ""))},
		{39, "empty socket type", false, closedAfter(readyBody(property("Socket-Type", "")))},
		{40, "two peers with one identity", false, oneIdentity},
		{41, "PING", false, ping},
		{42, "odd append frames", false, refusedWith("append", "odd", "v", "odd2")},
		{42, "append of a key without a value", false, refusedWith("append", "odd")},
		{43, "iset with one frame", false, refusedWith("iset", "odd")},
		{43, "iset with three frames", false, refusedWith("iset", "odd", "v", "w")},
		{44, "unknown command", false, refusedWith("frobnicate", "odd", "v")},
		{44, "a command's beginning", false, refusedWith("appen", "odd", "v")},
		{45, "empty command", false, refusedWith("", "odd", "v")},
		{45, "empty message", false, refusedWith("")},
		{46, "get of no keys", false, asks([]string{"ack"}, "get")},
		{46, "append of nothing", false, asks([]string{"ack"}, "append")},
		{46, "delete of nothing", false, asks([]string{"ack"}, "delete")},
		{47, "slow greeting", true, slowly(greeting(3, "NULL"))},
		{47, "no greeting", true, closedAfter(nil)},
		{47, "half a greeting", true, closedAfter(greeting(3, "NULL")[:30])},
		{47, "no READY", true, closedAfter(greeting(3, "NULL"))},
		{48, "message that stops half-way", true, openedThen(frame(flagMore, "append"), lying(flagMore, 1000), []byte("half"))},
		{48, "message without its last frame", true, openedThen(frame(flagMore, "append"), frame(flagMore, "k"))},
		{48, "header that stops half-way", true, openedThen(lying(0, 5)[:5])},
		{49, "peer that never reads", true, neverReads},
		{50, "too many connections", false, tooMany},
		{51, "close without the right", false, refusedWith("close")},
		{52, "HTTP", false, closedAfter([]byte("POST /partd HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"), make([]byte, 64))},
		{52, "TLS", false, closedAfter([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), []byte(strings.Repeat("\x5a\x13", 256)))},
		{52, "random bytes", false, closedAfter([]byte(strings.Repeat("\xa7\x01\x5e\xff\x00\x39\x7f\x02", 64)))},
		{52, "only 0xff", false, closedAfter([]byte(strings.Repeat("\xff", 512)))},
		{52, "only zeros", false, closedAfter(make([]byte, 512))},
	}
}
