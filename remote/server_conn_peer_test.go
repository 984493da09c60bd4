package remote

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/server/zmtp"
	"github.com/go-partd/partd/internal/testutil/must"
)

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

// wantError reads a frame that begins with "error: ", and ack. It returns the text.
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
	if h[0] != 0 || !bytes.HasPrefix(text, []byte("error: ")) {
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
