package zmtp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestOpen checks that each role sends the bytes that ZMTP 3.0 specifies, and that Open returns the bytes
// that the peer sent after READY.
func TestOpen(t *testing.T) {
	for _, role := range []Role{Router, Dealer} {
		greeting := "\xff" + strings.Repeat("\x00", 8) + "\x7f\x03\x00NULL" + strings.Repeat("\x00", 48)
		ready := "\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06" + string(role) + "\x08Identity\x00\x00\x00\x00"
		var sent bytes.Buffer
		c := &recording{discarding{piecewise{data: []byte(greeting + ready + "and more"), size: 1 << 10}}, &sent}
		rest, err := Open(c, role, time.Second)
		if err != nil || string(rest) != "and more" {
			t.Errorf("%s: Open = %q, %v, want the bytes after READY", role, rest, err)
		}
		if sent.String() != greeting+ready {
			t.Errorf("%s: Open sends %q, want %q", role, sent.String(), greeting+ready)
		}
	}
}

func TestBadHandshake(t *testing.T) {
	greeting := string(append([]byte{0: 0xff, 9: 0x7f, 10: 3, 11: 1}, "NULL"...)) + strings.Repeat("\x00", 48)
	withByte := func(offset int, b byte) string { return greeting[:offset] + string([]byte{b}) + greeting[offset+1:] }
	command := func(name, body string) string { return string(AppendCommand(nil, name, []byte(body))) }
	socketType := func(s string) string { return string(appendProperty(nil, "Socket-Type", s)) }
	for _, c := range []struct{ sent, want string }{
		{"GET / HTTP/1.1", "0x47"},
		{withByte(9, 0x7e), "0x7e"},
		{withByte(9, 1), "0x01"},
		{withByte(10, 1), "ZMTP 1"},
		{withByte(15, 'X'), "NULX"},
		{greeting[:12] + strings.Repeat("N", 20) + greeting[32:], "NNNN"},
		{withByte(32, 2), "byte 32"},
		{greeting + "\x00\x03syn", "flags 0x00"},
		{greeting + "\x05\x03syn", "a command of several frames"},
		{greeting + "\x0c\x03syn", "flags 0x0c"},
		{greeting + "\x06\x7f" + strings.Repeat("\xff", 7), "9223372036854775807 bytes"},
		{greeting + "\x06" + strings.Repeat("\xff", 8), "18446744073709551615 bytes"},
		{greeting + command("ERROR", "\x02no"), "the peer refused"},
		{greeting + command("HELLO", ""), "HELLO"},
		{greeting + command("READY", ""), "no socket type"},
		{greeting + command("READY", socketType("REQ")), "REQ"},
		{greeting + command("READY", socketType("")), "socket type"},
		{greeting + command("READY", "\x0bSocket-Type\x80\x00\x00\x00DEALER"), "2147483648 bytes"},
		{greeting + command("READY", "\xffSocket-Type"), "incomplete property"},
		{greeting + command("READY", socketType("DEALER")+socketType("DEALER")), "two socket types"},
		{greeting + command("READY", socketType("DEALER")+"\x01x\x00\x00\x00\x05"), "of 5 bytes"},
		{greeting + command("READY", socketType("DEALER")+"\x01x"), "incomplete property"},
		{greeting + command("READY", strings.Repeat("x", maxReadyLen)), "but the limit is 4096"},
	} {
		_, err := Open(&discarding{piecewise{data: []byte(c.sent), size: 1 << 10}}, Router, time.Second)
		if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Open after %.80q = %v, want an error with %s", c.sent, err, c.want)
		}
	}
	for n, want := range map[int]error{0: io.EOF, 1: io.ErrUnexpectedEOF, greetingLen - 1: io.ErrUnexpectedEOF, greetingLen: io.EOF} {
		if _, err := Open(&discarding{piecewise{data: []byte(greeting[:n]), size: 1 << 10}}, Router, 0); !errors.Is(err, want) {
			t.Errorf("Open with a peer that disconnects after %d bytes = %v, want %v", n, err, want)
		}
	}
}

// TestLongestReady opens a connection with the longest allowed READY. Open may read only a little beyond
// it, because what Open reads does not count toward the connection's memory budget.
func TestLongestReady(t *testing.T) {
	greeting := string(append([]byte{0: 0xff, 9: 0x7f, 10: 3, 11: 0}, "NULL"...)) + strings.Repeat("\x00", 48)
	body := appendProperty(nil, "Socket-Type", "DEALER")
	body = appendProperty(body, "x", strings.Repeat("x", maxReadyLen-len("_READY")-len(body)-len("_x____")))
	sent := greeting + string(AppendCommand(nil, "READY", body)) + strings.Repeat("y", 1<<20)
	for _, size := range []int{1, 1 << 20} {
		rest, err := Open(&discarding{piecewise{data: []byte(sent), size: size}}, Router, time.Second)
		if err != nil || len(rest) > smallBuffer || strings.Trim(string(rest), "y") != "" {
			t.Errorf("in pieces of %d bytes: Open returns %d bytes after READY, %v, want at most a small buffer", size, len(rest), err)
		}
	}
}

// FuzzOpen checks that no handshake makes Open panic, or return other bytes than those read last.
func FuzzOpen(f *testing.F) {
	greeting := make([]byte, greetingLen)
	greeting[0], greeting[9], greeting[10] = 0xff, 0x7f, 3
	copy(greeting[12:], "NULL")
	f.Add(append(greeting, AppendCommand(nil, "READY", appendProperty(nil, "Socket-Type", "DEALER"))...))
	f.Add(append(greeting, AppendCommand(nil, "READY", []byte{250, 'x'})...))
	f.Add(append(greeting, 6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
	f.Add(append(greeting, AppendCommand(nil, "READY", appendProperty(nil, "Socket-Type", "EVIL"))...))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, role := range []Role{Router, Dealer} {
			c := &discarding{piecewise{data: data, size: 50}}
			rest, err := Open(c, role, 0)
			if err == nil && !bytes.HasSuffix(data, append(rest, c.data...)) {
				t.Fatalf("Open returns %d bytes that are not the last ones sent", len(rest))
			}
		}
	})
}

// discarding is a connection that accepts and discards writes.
type discarding struct{ piecewise }

func (*discarding) Write(p []byte) (int, error) { return len(p), nil }
func (*discarding) SetDeadline(time.Time) error { return nil }
func (*discarding) Close() error                { return nil }

// recording is a connection that records writes.
type recording struct {
	discarding
	sent *bytes.Buffer
}

func (c *recording) Write(p []byte) (int, error) { return c.sent.Write(p) }

// TestHandshakeTimeout checks that Open fails in time if the peer sends its handshake slowly.
func TestHandshakeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			go io.Copy(io.Discard, theirs)
			for _, b := range []byte{0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3} {
				if _, err := theirs.Write([]byte{b}); err != nil {
					break
				}
				time.Sleep(2 * time.Second)
			}
		}()
		begin := time.Now()
		must.Fail(t, must.Err(Open(ours, Router, 10*time.Second)), os.ErrDeadlineExceeded, "Open")
		if d := time.Since(begin); d != 10*time.Second {
			t.Errorf("Open failed after %v, want 10 s", d)
		}
		ours.Close()
		theirs.Close()
		time.Sleep(time.Minute) // let the peer's goroutine end
	})
}

// TestLibzmq checks that a client recognizes a libzmq server by its greeting, before the client
// sends READY, and that a server accepts a libzmq client.
func TestLibzmq(t *testing.T) {
	greeting := "\xff" + strings.Repeat("\x00", 7) + "\x01\x7f\x03\x01NULL" + strings.Repeat("\x00", 48)
	ready := string(AppendCommand(nil, "READY", appendProperty(nil, "Socket-Type", string(Dealer))))
	for role, want := range map[Role]error{Dealer: ErrLibzmq, Router: nil} {
		var sent bytes.Buffer
		_, err := Open(&recording{discarding{piecewise{data: []byte(greeting + ready), size: 1 << 10}}, &sent}, role, time.Second)
		if !errors.Is(err, want) || want != nil && sent.Len() != greetingLen {
			t.Errorf("%s: Open = %v after sending %d bytes, want %v", role, err, sent.Len(), want)
		}
	}
}
