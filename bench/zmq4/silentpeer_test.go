package zmq4

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-zeromq/zmq4"

	"github.com/go-partd/partd"
)

// answersDespiteSilentPeer reports whether a server answers a DEALER while a silent peer is connected.
func answersDespiteSilentPeer(t *testing.T, url string) bool {
	t.Helper()
	silent, err := net.Dial("tcp", strings.TrimPrefix(url, "tcp://"))
	must(t, err)
	defer silent.Close()
	time.Sleep(100 * time.Millisecond) // so that the server accepts the silent peer first
	answered := make(chan error, 1)
	d := zmq4.NewDealer(context.Background(), quietOptions...)
	go func() {
		err := d.Dial(url)
		if err == nil {
			err = d.Send(zmq4.NewMsgString("syn"))
		}
		if err == nil {
			_, err = d.Recv()
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		must(t, err)
		must(t, d.Close())
		return true
	case <-time.After(2 * time.Second):
		return false // the DEALER stays blocked until the test's process ends
	}
}

// startRouter starts a zmq4 ROUTER that answers every message with "ack".
func startRouter(t *testing.T) string {
	t.Helper()
	r := zmq4.NewRouter(context.Background(), quietOptions...)
	must(t, r.Listen("tcp://127.0.0.1:0"))
	t.Cleanup(func() { _ = r.Close() })
	go func() {
		for {
			m, err := r.Recv()
			if err != nil {
				return
			}
			_ = r.Send(zmq4.NewMsgFrom(m.Frames[0], []byte("ack")))
		}
	}()
	return "tcp://" + r.Addr().String()
}

// TestSilentPeer checks a claim in docs/wire.md: a silent peer blocks a zmq4 ROUTER for all other
// peers, but does not block our server.
func TestSilentPeer(t *testing.T) {
	if answersDespiteSilentPeer(t, startRouter(t)) {
		t.Error("zmq4's ROUTER now serves other peers while one is silent; update docs/wire.md")
	}
	if !answersDespiteSilentPeer(t, serve(t, partd.NewDict(), "tcp://127.0.0.1:0")) {
		t.Error("our server does not answer while another peer is silent")
	}
}

// isOverheard reports whether one of two DEALERs with the same identity receives the other's answer.
func isOverheard(t *testing.T, url string) bool {
	t.Helper()
	var peers [2]*dealer
	for i := range peers {
		d := &dealer{Socket: zmq4.NewDealer(context.Background(), append(quietOptions, zmq4.WithID(zmq4.SocketIdentity("the same")))...), t: t}
		t.Cleanup(func() { _ = d.Close() })
		must(t, d.Dial(url))
		peers[i] = d
	}
	time.Sleep(100 * time.Millisecond) // so that the server knows both peers
	heard := make(chan bool, 1)
	go func() {
		_, err := peers[1].Recv()
		heard <- err == nil
	}()
	peers[0].requestPython(frames("syn"), false)
	peers[0].wantMessage(frames("ack"))
	select {
	case h := <-heard:
		return h
	case <-time.After(500 * time.Millisecond):
		return false
	}
}

// TestSameIdentity checks a claim in docs/wire.md: if two peers have the same identity, zmq4's ROUTER
// may answer the wrong one, but our server does not.
func TestSameIdentity(t *testing.T) {
	if !isOverheard(t, startRouter(t)) {
		t.Error("zmq4's ROUTER now replies only to the peer that sent the request; update docs/wire.md")
	}
	if isOverheard(t, serve(t, partd.NewDict(), "tcp://127.0.0.1:0")) {
		t.Error("our server sends a peer the reply to another peer's request")
	}
}
