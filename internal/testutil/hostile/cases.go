package hostile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Target is the server under attack.
type Target struct {
	Network, Address string
	MaxMessage       int           // the server's limit on a message, in bytes
	MaxConnections   int           // maximum number of connections that the server allows; 0 means that the limit is not tested
	Patience         time.Duration // time limit for the server to answer, and to drop a slow peer
}

// Case is a named conversation. Run returns an error if the server does not react correctly.
type Case struct {
	Name string
	pace pace
	Run  func(ctx context.Context, t *Target) error
}

type pace int

const (
	quick  pace = iota
	greedy      // takes long, or uses resources that other peers need
	slow        // the server closes the connection only after a timeout
)

// Slow reports whether the server closes the connection only after a timeout.
func (c Case) Slow() bool { return c.pace == slow }

// Cases returns the named conversations.
func Cases() []Case {
	closedAfter := func(b ...[]byte) func(context.Context, *Target) error { return sendRaw(false, b...) }
	closedAfterHandshake := func(b ...[]byte) func(context.Context, *Target) error { return sendRaw(true, b...) }
	command := func(flags byte, n int) []byte {
		return frame(flagCommand|flags, "\x04PING"+strings.Repeat("x", n))
	}
	readyBody := func(s string) []byte { return append(greeting(3, "NULL"), frame(flagCommand, "\x05READY"+s)...) }
	socketType := property("Socket-Type", "DEALER")
	return []Case{
		{"lying frame length", quick, closedAfterHandshake(Message("append", "lied", "v"), falseHeader(flagMore, 1<<40), make([]byte, 1000))},
		{"lying frame length, over the limit", quick, func(ctx context.Context, t *Target) error {
			return sendRaw(true, falseHeader(0, uint64(t.MaxMessage)+4096), make([]byte, 1000))(ctx, t)
		}},
		{"frame of 2^64-1 bytes", quick, closedAfterHandshake(falseHeader(0, 1<<64-1), make([]byte, 1000))},
		{"frame of 2^63 bytes", quick, closedAfterHandshake(falseHeader(flagMore, 1<<63), make([]byte, 1000))},
		{"frame of 2^63-1 bytes, as a command", quick, closedAfterHandshake(falseHeader(flagCommand, 1<<63-1))},
		{"READY of 2^63-1 bytes", quick, closedAfter(greeting(3, "NULL"), falseHeader(flagCommand, 1<<63-1), make([]byte, 1000))},
		{"truncated frame", quick, sendTruncated},
		{"endless MORE", greedy, sendEndless("x")},
		{"endless empty frames", greedy, sendEndless("")},
		{"endless empty messages", greedy, sendEmptyMessages},
		{"reserved flags", quick, closedAfterHandshake([]byte{0xf8, 3, 's', 'y', 'n'})},
		{"one reserved flag", quick, closedAfterHandshake([]byte{0x08, 3, 's', 'y', 'n'})},
		{"command with MORE", quick, closedAfterHandshake(command(flagMore, 2))},
		{"oversized command", quick, closedAfterHandshake(command(0, 1<<16))},
		{"oversized READY", quick, closedAfter(greeting(3, "NULL"), frame(flagCommand, "\x05READY"+socketType+property("X-Long", strings.Repeat("x", 1<<20))))},
		{"command without a name", quick, closedAfterHandshake(frame(flagCommand, ""))},
		{"command with a lying name", quick, closedAfterHandshake(frame(flagCommand, "\xffPING"))},
		{"message before READY", quick, closedAfter(greeting(3, "NULL"), Message("append", "early", "v"))},
		{"bad signature", quick, closedAfter(append([]byte{0}, greeting(3, "NULL")[1:]...))},
		{"bad end of the signature", quick, closedAfter(append([]byte("\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7e"), greeting(3, "NULL")[10:]...))},
		{"ZMTP 1", quick, closedAfter([]byte("\x01\x00\x04\x00syn"), make([]byte, 64))},
		{"ZMTP 2", quick, closedAfter(greeting(1, "NULL"))},
		{"ZMTP 0", quick, closedAfter(greeting(0, "NULL"))},
		{"unknown mechanism", quick, closedAfter(greeting(3, "KERBEROS"), ready("DEALER", ""))},
		{"mechanism not on offer", quick, closedAfter(greeting(3, "CURVE"), ready("DEALER", ""))},
		{"mechanism without an end", quick, closedAfter(greeting(3, strings.Repeat("N", 20)), ready("DEALER", ""))},
		{"READY with a lying value", quick, closedAfter(readyBody("\x0bSocket-Type\xff\xff\xff\xffDEALER"))},
		{"READY with a value of 2^31", quick, closedAfter(readyBody("\x0bSocket-Type\x80\x00\x00\x00DEALER"))},
		{"READY with a lying name", quick, closedAfter(readyBody("\xffSocket-Type"))},
		{"READY that ends in a length", quick, closedAfter(readyBody("\x0bSocket-Type\x00\x00"))},
		{"READY that is another command", quick, closedAfter(greeting(3, "NULL"), frame(flagCommand, "\x05ERROR\x03bad"))},
		{"READY without a socket type", quick, closedAfter(readyBody(""))},
		{"unknown socket type", quick, closedAfter(greeting(3, "NULL"), ready("FROBNICATOR", ""))},
		{"empty socket type", quick, closedAfter(readyBody(property("Socket-Type", "")))},
		{"two peers with one identity", quick, useSameIdentity},
		{"PING", quick, checkPing},
		{"odd append frames", quick, expectError("append", "odd", "v", "odd2")},
		{"append of a key without a value", quick, expectError("append", "odd")},
		{"iset with one frame", quick, expectError("iset", "odd")},
		{"iset with three frames", quick, expectError("iset", "odd", "v", "w")},
		{"unknown command", quick, expectError("frobnicate", "odd", "v")},
		{"a command's beginning", quick, expectError("appen", "odd", "v")},
		{"empty command", quick, expectError("", "odd", "v")},
		{"empty message", quick, expectError("")},
		{"get of no keys", quick, expectAnswer([]string{"ack"}, "get")},
		{"append of nothing", quick, expectAnswer([]string{"ack"}, "append")},
		{"delete of nothing", quick, expectAnswer([]string{"ack"}, "delete")},
		{"slow greeting", slow, sendSlowly(greeting(3, "NULL"))},
		{"no greeting", slow, closedAfter(nil)},
		{"half a greeting", slow, closedAfter(greeting(3, "NULL")[:30])},
		{"no READY", slow, closedAfter(greeting(3, "NULL"))},
		{"message that stops half-way", slow, closedAfterHandshake(frame(flagMore, "append"), falseHeader(flagMore, 1000), []byte("half"))},
		{"message without its last frame", slow, closedAfterHandshake(frame(flagMore, "append"), frame(flagMore, "k"))},
		{"header that stops half-way", slow, closedAfterHandshake(falseHeader(0, 5)[:5])},
		{"peer that never reads", slow, neverRead},
		{"too many connections", greedy, openTooMany},
		{"close without the right", quick, expectError("close")},
		{"HTTP", quick, closedAfter([]byte("POST /partd HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"), make([]byte, 64))},
		{"TLS", quick, closedAfter([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), []byte(strings.Repeat("\x5a\x13", 256)))},
		{"random bytes", quick, closedAfter([]byte(strings.Repeat("\xa7\x01\x5e\xff\x00\x39\x7f\x02", 64)))},
		{"only 0xff", quick, closedAfter([]byte(strings.Repeat("\xff", 512)))},
		{"only zeros", quick, closedAfter(make([]byte, 512))},
	}
}

// sendRaw sends bytes. If afterHandshake is true, it first performs a handshake. The server must
// disconnect.
func sendRaw(afterHandshake bool, parts ...[]byte) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		dial := Dial
		if afterHandshake {
			dial = Open
		}
		p, err := dial(ctx, t.Network, t.Address, t.Patience)
		if err != nil {
			return err
		}
		defer p.Close()
		for _, b := range parts {
			if err := p.Raw(b); err != nil && !isReset(err) {
				return err
			}
		}
		return p.WaitClosed()
	}
}

// sendSlowly sends bytes one at a time, over the whole patience. The server must disconnect earlier.
func sendSlowly(b []byte) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		p, err := Dial(ctx, t.Network, t.Address, t.Patience)
		if err != nil {
			return err
		}
		defer p.Close()
		for i := range b {
			if err := p.Raw(b[i : i+1]); err != nil {
				return unlessReset(err)
			}
			time.Sleep(t.Patience / time.Duration(len(b)))
		}
		return fmt.Errorf("the server did not disconnect within %v during a slow greeting of %d bytes", t.Patience, len(b))
	}
}

func withPeer(ctx context.Context, t *Target, f func(p *Peer) error) error {
	p, err := Open(ctx, t.Network, t.Address, t.Patience)
	if err != nil {
		return err
	}
	return errors.Join(f(p), p.Close())
}

func expectNoValues(ctx context.Context, t *Target, keys ...string) error {
	return withPeer(ctx, t, func(p *Peer) error {
		values, err := p.Get(keys...)
		if err == nil && strings.Join(values, "") != "" {
			err = fmt.Errorf("part of the request was applied: keys %q have the values %.80q", keys, values)
		}
		return err
	})
}

// sendTruncated sends a request that is cut off, at various lengths. The server must not apply it.
func sendTruncated(ctx context.Context, t *Target) error {
	complete := Message("append", "truncated", "v", "truncated2", strings.Repeat("v", 300))
	for cut := 1; cut < len(complete); cut += 7 {
		err := withPeer(ctx, t, func(p *Peer) error {
			if err := p.Raw(complete[:cut]); err != nil {
				return err
			}
			if c, ok := p.conn.(interface{ CloseWrite() error }); ok {
				if err := c.CloseWrite(); err != nil {
					return err
				}
			}
			return p.WaitClosed()
		})
		if err != nil {
			return fmt.Errorf("cut after %d bytes: %w", cut, err)
		}
	}
	return expectNoValues(ctx, t, "truncated", "truncated2")
}

// sendEndless sends frames of a message that never ends. The server must disconnect.
func sendEndless(body string) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		return withPeer(ctx, t, func(p *Peer) error {
			if err := p.Raw(frame(flagMore, "get")); err != nil {
				return err
			}
			batch := []byte(strings.Repeat(string(frame(flagMore, body)), 10_000))
			for sent := 0; sent < 4*t.MaxMessage+16<<20; sent += len(batch) {
				if err := p.Raw(batch); err != nil {
					return unlessReset(err)
				}
			}
			return p.WaitClosed()
		})
	}
}

// sendEmptyMessages sends messages of one empty frame. The server must answer each, or disconnect.
func sendEmptyMessages(ctx context.Context, t *Target) error {
	return withPeer(ctx, t, func(p *Peer) error {
		for range 1000 {
			if err := p.Send(""); err != nil {
				return unlessReset(err)
			}
			if _, err := p.Receive(); err != nil {
				return unlessReset(err)
			}
		}
		return nil
	})
}
