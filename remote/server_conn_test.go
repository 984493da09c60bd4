package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/zmtp"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestProtocolViolations checks that a connection that breaks the protocol is closed without
// changing the store, and that other peers are served. Package zmtp tests more faulty handshakes.
func TestProtocolViolations(t *testing.T) {
	hello := func(parts ...[]byte) []byte {
		return joinBytes(append([][]byte{greeting(), ready("DEALER")}, parts...)...)
	}
	endlessFrames := bytes.Repeat(zmtp.AppendFrame(nil, nil, true), 1<<20)
	noise := make([]byte, 4096)
	must.Get(rand.Read(noise))(t)
	for _, c := range []struct {
		name string
		send []byte
	}{
		{"frame length beyond the limit", hello(longHeader(0, 1<<40))},
		{"frame length within the limit", hello(message("append", "k")[:8], longHeader(0, 100_000), []byte("short"))},
		{"frame length 2^64-1", hello(longHeader(0, 1<<64-1))},
		{"frame length 2^63-1 with MORE", hello(longHeader(1, 1<<63-1))},
		{"truncated frame", hello(message("append", "k", "value")[:15])},
		{"truncated header", hello([]byte{2, 0, 0})},
		{"endless MORE", hello(zmtp.AppendFrame(nil, []byte("append"), true), bytes.Repeat(zmtp.AppendFrame(nil, make([]byte, 200), true), 10_000))},
		{"endless empty frames", hello(endlessFrames)},
		{"reserved flags", hello([]byte{8, 1, 'x'})},
		{"reserved flags of a later frame", hello(zmtp.AppendFrame(nil, []byte("append"), true), []byte{0x80, 0})},
		{"command with MORE", hello([]byte{5, 5, 4, 'P', 'I', 'N', 'G'})},
		{"oversized command", hello(longHeader(4, 100_000))},
		{"command of 2^63-1 bytes", hello(longHeader(4, 1<<63-1))},
		{"empty command", hello([]byte{4, 0})},
		{"command with a wrong name length", hello([]byte{4, 5, 0xff, 'P', 'I', 'N', 'G'})},
		{"PING without time", hello(zmtp.AppendCommand(nil, "PING", nil))},
		{"second READY", hello(ready("DEALER"))},
		{"slow greeting", greeting()[:20]},
		{"no bytes", nil},
		{"truncated message", hello(message("append", "k", strings.Repeat("v", 5000))[:3000])},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
		{"random bytes", append([]byte{1}, noise...)},
		{"random bytes after the handshake", hello(append([]byte{0xf8}, noise...))},
		{"request of two frames", hello(message("\x00PD1"+strings.Repeat("\x00", 36), "x"))},
		{"truncated request", hello(message("\x00PD1\x05"))},
		{"get that fails", hello(message("get", strings.Repeat("k", partd.MaxKeyLen+1)))},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			store := partd.NewDict()
			_, url := serve(t, store, &ServerOptions{
				// The timeouts are long enough for the honest peer on a busy machine.
				MaxMessage: 1 << 20, HandshakeTimeout: 2 * time.Second, StallTimeout: 2 * time.Second,
			})
			honestPeer := openPeer(t, url)
			p := rawPeer(t, url)
			go p.Write(c.send) // fails if the server closes the connection
			p.wantClosed()
			if st := must.Get(store.Stat(context.Background()))(t); st.Keys > 0 {
				t.Errorf("the connection changed the store: %+v", st)
			}
			honestPeer.send(message("append", "k", "v"), message("get", "k"))
			honestPeer.wantBytes(joinBytes(acked, message("v"), acked))
		})
	}
}

// TestPing checks that PING is answered with its context, even between the frames of a message. Very many of them do
// not count as parts of a message.
func TestPing(t *testing.T) {
	_, url := serve(t, partd.NewDict(), &ServerOptions{MaxMessage: minMessage, StallTimeout: time.Second})
	p := openPeer(t, url)
	for _, context := range []string{"", "context", "sixteen bytes ok"} {
		p.send(zmtp.AppendCommand(nil, "PING", append([]byte{0, 100}, context...)))
		p.wantBytes(zmtp.AppendCommand(nil, "PONG", []byte(context)))
	}
	m := message("append", "k", "v")
	ping := zmtp.AppendCommand(nil, "PING", []byte{0, 0, 'x'})
	p.send(m[:8], ping, m[8:11], ping, m[11:], message("get", "k"))
	pong := zmtp.AppendCommand(nil, "PONG", []byte("x"))
	p.wantBytes(joinBytes(pong, pong, acked, message("v"), acked))
	for range 100 {
		p.send(bytes.Repeat(ping, 1000))
		p.wantBytes(bytes.Repeat(pong, 1000))
	}
}

func TestEqualIdentities(t *testing.T) {
	_, url := serve(t, partd.NewDict(), nil)
	var peers [2]*peer
	for i := range peers {
		p := rawPeer(t, url)
		body := append(ready("DEALER")[8:], append([]byte{8}, "Identity"...)...)
		body = append(binary.BigEndian.AppendUint32(body, 4), "twin"...)
		p.send(greeting(), zmtp.AppendCommand(nil, "READY", body))
		p.wantBytes(append(greeting(), readyOfServer()...))
		peers[i] = p
	}
	for i, p := range peers {
		p.send(message("append", fmt.Sprint("k", i), fmt.Sprint("v", i)), message("get", fmt.Sprint("k", i)))
	}
	for i, p := range peers {
		p.wantBytes(joinBytes(acked, message(fmt.Sprint("v", i)), acked))
	}
}

// TestSlowHandshakes checks that a client can connect while many peers do not finish their handshake.
func TestSlowHandshakes(t *testing.T) {
	_, url := serve(t, partd.NewDict(), &ServerOptions{MaxConnections: 40, HandshakeTimeout: time.Hour})
	for range 200 {
		rawPeer(t, url)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := must.Get(Dial(ctx, url, nil))(t)
	must.Do(t, c.Close())
}

// greeting returns the greeting of a peer with the mechanism NULL.
func greeting() []byte {
	g := make([]byte, 64)
	g[0], g[9], g[10] = 0xff, 0x7f, 3
	copy(g[12:], "NULL")
	return g
}

func ready(kind string) []byte {
	body := append([]byte{11}, "Socket-Type"...)
	body = binary.BigEndian.AppendUint32(body, uint32(len(kind)))
	return zmtp.AppendCommand(nil, "READY", append(body, kind...))
}

func message(frames ...string) []byte {
	var b []byte
	for i, f := range frames {
		b = zmtp.AppendFrame(b, []byte(f), i < len(frames)-1)
	}
	return b
}

func longHeader(flags byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{flags | 2}, n)
}

func joinBytes(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// peer is a client connection that can send arbitrary bytes.
type peer struct {
	net.Conn
	t *testing.T
}

func rawPeer(t *testing.T, url string) *peer {
	t.Helper()
	c := must.Get(net.Dial("tcp", strings.TrimPrefix(url, "tcp://")))(t)
	t.Cleanup(func() { _ = c.Close() })
	must.Do(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return &peer{c, t}
}

// openPeer returns a peer that has finished the handshake.
func openPeer(t *testing.T, url string) *peer {
	t.Helper()
	p := rawPeer(t, url)
	p.send(greeting(), ready("DEALER"))
	p.wantBytes(append(greeting(), readyOfServer()...))
	return p
}

func readyOfServer() []byte {
	body := append([]byte{11}, "Socket-Type"...)
	body = append(binary.BigEndian.AppendUint32(body, 6), "ROUTER"...)
	body = append(append(body, 8), "Identity"...)
	return zmtp.AppendCommand(nil, "READY", append(body, 0, 0, 0, 0))
}

func (p *peer) send(parts ...[]byte) {
	p.t.Helper()
	must.Get(p.Write(joinBytes(parts...)))(p.t)
}

func (p *peer) wantBytes(b []byte) {
	p.t.Helper()
	got := make([]byte, len(b))
	n, err := io.ReadFull(p, got)
	if err != nil || !bytes.Equal(got, b) {
		p.t.Fatalf("read %d bytes, %.200q, %v, want %d bytes, %.200q", n, got[:n], err, len(b), b)
	}
}

// wantError reads a frame that begins with "error", and ack. It returns the text.
func (p *peer) wantError() string {
	p.t.Helper()
	var h [2]byte
	must.Get(io.ReadFull(p, h[:]))(p.t)
	text := make([]byte, h[1])
	if h[0] == 2 { // a long frame
		var size [8]byte
		size[0] = h[1]
		must.Get(io.ReadFull(p, size[1:]))(p.t)
		h[0], text = 0, make([]byte, binary.BigEndian.Uint64(size[:]))
	}
	must.Get(io.ReadFull(p, text))(p.t)
	p.wantBytes(acked)
	if h[0] != 0 || !bytes.HasPrefix(text, []byte("error")) {
		p.t.Fatalf("read a frame with flags %d and content %q, want an error", h[0], text)
	}
	return string(text)
}

func (p *peer) wantClosed() {
	p.t.Helper()
	if _, err := io.Copy(io.Discard, p); errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatal("the server did not close the connection in time")
	}
}

var acked = message("ack")

// syncingDict is a Dict whose Sync lasts until its context or finish ends it.
type syncingDict struct {
	*partd.Dict
	began  chan struct{}
	ended  chan error
	finish chan struct{}
}

func (d syncingDict) Sync(ctx context.Context) (err error) {
	d.began <- struct{}{}
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-d.finish:
	}
	d.ended <- err
	return err
}

// TestSyncOutlivesClient checks that the Sync of a client that leaves is not canceled. A log store whose canceled Sync
// lasts another minute would refuse the writes of all clients.
func TestSyncOutlivesClient(t *testing.T) {
	d := syncingDict{partd.NewDict(), make(chan struct{}, 2), make(chan error, 2), make(chan struct{})} // for the Sync below, and that of Shutdown
	_, url := serve(t, d, nil)
	c := must.Get(Dial(ctx, url, nil))(t)
	go func() { _ = c.Sync(ctx) }() // fails, because the client is closed
	<-d.began
	must.Do(t, c.Close())
	select {
	case err := <-d.ended:
		t.Errorf("after the client left, Sync ended with %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	close(d.finish)
}
