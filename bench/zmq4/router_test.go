// Package zmq4 only has tests. They connect package remote with github.com/go-zeromq/zmq4, an
// independent ZeroMQ in Go: its DEALER with our server, and its ROUTER with our client.
package zmq4

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/remote"
	"github.com/go-zeromq/zmq4"
)

// relay is a zmq4 ROUTER that forwards the requests of each peer to our server through a zmq4 DEALER.
type relay struct {
	t         testing.TB
	serverURL string
	router    zmq4.Socket

	mu      sync.Mutex
	dealers map[string]zmq4.Socket
}

// startRelay starts a relay in front of our server, and returns the relay's URL.
func startRelay(t testing.TB, url, serverURL string) string {
	t.Helper()
	r := &relay{t: t, serverURL: serverURL, router: zmq4.NewRouter(context.Background(), quietOptions...), dealers: map[string]zmq4.Socket{}}
	must.Do(t, r.router.Listen(url))
	t.Cleanup(r.close)
	go func() {
		for {
			m, err := r.router.Recv()
			if err != nil {
				return // the ROUTER was closed
			}
			if dealer := r.dealer(m.Frames[0]); dealer != nil {
				_ = dealer.Send(zmq4.NewMsgFrom(m.Frames[1:]...)) // if this fails, the peer sends its request again
			}
		}
	}()
	if strings.HasPrefix(url, "tcp://") {
		return "tcp://" + r.router.Addr().String()
	}
	return url
}

// dealer returns the DEALER of a peer, and forwards its answers to the peer.
func (r *relay) dealer(id []byte) zmq4.Socket {
	r.mu.Lock()
	defer r.mu.Unlock()
	dealer := r.dealers[string(id)]
	if dealer == nil {
		dealer = zmq4.NewDealer(context.Background(), quietOptions...)
		if err := dealer.Dial(r.serverURL); err != nil {
			r.t.Errorf("zmq4 cannot connect to the server at %s: %v", r.serverURL, err)
			return nil
		}
		r.dealers[string(id)] = dealer
		go func() {
			for {
				m, err := dealer.Recv()
				if err != nil {
					return
				}
				_ = r.router.Send(zmq4.NewMsgFrom(append([][]byte{id}, m.Frames...)...))
			}
		}()
	}
	return dealer
}

// close closes all connections and stops listening.
func (r *relay) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.router.Close()
	for _, dealer := range r.dealers {
		_ = dealer.Close()
	}
}

// TestClientKeepsPromises checks that our client passes the test suite for stores with zmq4
// between the client and our server.
func TestClientKeepsPromises(t *testing.T) {
	abilities := []partdtest.Ability{
		partdtest.CanSet, partdtest.CanDelete, partdtest.CanPop, partdtest.CanList, partdtest.CanOpen, partdtest.CanScan,
		partdtest.CanStat, partdtest.CanClose,
	}
	for transport, address := range transports {
		t.Run(transport, func(t *testing.T) {
			newClient := func(t *testing.T) partd.Partd {
				c := must.Get(remote.Dial(t.Context(), startRelay(t, address(t), serve(t, partd.NewDict(), address(t))), nil))(t)
				t.Cleanup(func() { _ = c.Close() })
				return c
			}
			partdtest.Run(t, newClient, &partdtest.Options{Require: abilities, MachineRuns: 1, Pieces: 20, LargeValue: 5 << 20})
		})
	}
}

// transports maps each transport that both implementations support to a function that returns an address.
var transports = map[string]func(t testing.TB) string{
	"tcp": func(testing.TB) string { return "tcp://127.0.0.1:0" },
	"ipc": func(t testing.TB) string { return "ipc://" + filepath.Join(t.TempDir(), "socket") },
}

func openLog(t testing.TB) partd.Partd {
	t.Helper()
	store := must.Get(logstore.Open(t.TempDir(), &logstore.Options{Memory: 64 << 20}))(t)
	t.Cleanup(func() { must.Do(t, store.Close()) })
	return store
}

// serve runs our server with a store until the end of the test, and returns its URL.
func serve(t testing.TB, store partd.Partd, url string) string {
	t.Helper()
	s := must.Get(remote.NewServer(store, &remote.ServerOptions{AllowClose: true, Memory: 1 << 30}))(t)
	l := must.Get(remote.Listen(url))(t)
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		must.Do(t, s.Shutdown(context.Background()))
		must.Do(t, <-done)
	})
	return remote.URL(l.Addr())
}

// quietOptions are for sockets whose peers disconnect: they log nothing.
var quietOptions = []zmq4.Option{zmq4.WithLogger(log.New(io.Discard, "", 0)), zmq4.WithTimeout(time.Minute)}

// dealer is a zmq4 DEALER that is connected to our server.
type dealer struct {
	zmq4.Socket
	t testing.TB

	requestNumber  uint64
	session        uint64
	sentOperations map[byte]bool
}

func dial(t testing.TB, url string) *dealer {
	t.Helper()
	d := &dealer{Socket: zmq4.NewDealer(context.Background(), quietOptions...), t: t, sentOperations: map[byte]bool{}}
	t.Cleanup(func() { _ = d.Close() })
	must.Do(t, d.Dial(url))
	return d
}

// frames returns the frames of a message.
func frames(texts ...string) [][]byte {
	var f [][]byte
	for _, text := range texts {
		f = append(f, []byte(text))
	}
	return f
}

// receive waits for a message, and fails the test if none arrives.
func (d *dealer) receive() [][]byte {
	d.t.Helper()
	timeout := time.AfterFunc(time.Minute, func() { _ = d.Close() })
	defer timeout.Stop()
	m := must.Get(d.Recv())(d.t)
	return m.Frames
}

// wantMessage receives a message, which must equal the given one.
func (d *dealer) wantMessage(message [][]byte) {
	d.t.Helper()
	got := d.receive()
	if len(got) != len(message) {
		d.t.Fatalf("got a message of %d frames (the first is %.100q), want %d", len(got), got[0], len(message))
	}
	for i := range got {
		if !bytes.Equal(got[i], message[i]) {
			d.t.Fatalf("frame %d of %d has %d bytes (%.100q), want %d bytes (%.100q)", i, len(got), len(got[i]), got[i], len(message[i]), message[i])
		}
	}
}

// requestPython sends a message over the Python protocol. vectored selects how zmq4 writes the frames.
func (d *dealer) requestPython(message [][]byte, vectored bool) {
	d.t.Helper()
	send := d.Send
	if vectored {
		send = d.SendMulti
	}
	must.Do(d.t, send(zmq4.NewMsgFrom(message...)))
}

// header holds the fields of a request other than its operation and its body.
type header struct {
	seq   uint64
	check uint32
}

// send sends a request of the Go client's protocol, which docs/dev/wire.md describes.
func (d *dealer) send(op byte, h header, number uint64, body ...[]byte) {
	d.t.Helper()
	d.sentOperations[op] = true
	le := binary.LittleEndian
	b := append([]byte("\x00PD1"), op, 0, 0, 0)
	b = le.AppendUint64(b, number)
	session := d.session
	if h.seq == 0 {
		session = 0
	}
	b = le.AppendUint64(b, session)
	b = le.AppendUint64(b, h.seq)
	b = le.AppendUint32(b, h.check)
	b = append(b, 0, 0, 0, 0)
	must.Do(d.t, d.Send(zmq4.NewMsg(append(b, bytes.Join(body, nil)...))))
}

// request sends a request, and returns the flags and the body of its reply, which must have status.
func (d *dealer) request(op byte, h header, status byte, body ...[]byte) (flags byte, reply []byte) {
	d.t.Helper()
	d.requestNumber++
	d.send(op, h, d.requestNumber, body...)
	got := d.receive()
	if len(got) != 1 || len(got[0]) < 16 {
		d.t.Fatalf("operation %d: the reply has %d frames (the first is %.100q), want 1 frame of at least 16 bytes", op, len(got), got[0])
	}
	b := got[0]
	want := append([]byte("\x00PD1"), op, status, b[6], 0)
	if want = binary.LittleEndian.AppendUint64(want, d.requestNumber); !bytes.Equal(b[:16], want) {
		d.t.Fatalf("operation %d: the reply is %x %.200q, want %x", op, b[:16], b[16:], want)
	}
	return b[6], b[16:]
}

func u32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

func u64(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

func encodeText(s string) []byte { return append(u32(uint32(len(s))), s...) }

func encodeKeys(names ...string) []byte {
	b := u32(uint32(len(names)))
	for _, name := range names {
		b = append(binary.LittleEndian.AppendUint16(b, uint16(len(name))), name...)
	}
	return b
}

func encodeEntries(list ...partd.Entry) []byte {
	b := u32(uint32(len(list)))
	for _, e := range list {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(e.Key)))
		b = append(b, u32(uint32(len(e.Value)))...)
		b = append(append(b, e.Key...), e.Value...)
	}
	return b
}
