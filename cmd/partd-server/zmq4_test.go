package main

import (
	"fmt"
	"testing"

	"github.com/go-zeromq/zmq4"
)

// zmq4's own socket, a second implementation in Go, speaks to the server.
func TestZmq4Peer(t *testing.T) {
	p := start(t, "--store", "mem:")
	s := zmq4.NewDealer(t.Context(), zmq4.WithID(zmq4.SocketIdentity("a name")))
	defer s.Close()
	if err := s.Dial(p.URL()); err != nil {
		t.Fatal(err)
	}
	send := func(frames ...string) {
		t.Helper()
		var msg zmq4.Msg
		for _, f := range frames {
			msg.Frames = append(msg.Frames, []byte(f))
		}
		if err := s.SendMulti(msg); err != nil {
			t.Fatal(err)
		}
	}
	receive := func(want ...string) {
		t.Helper()
		msg, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%q", msg.Frames); got != fmt.Sprintf("%q", want) {
			t.Fatalf("received %.100s, want %.100q", got, want)
		}
	}
	large := string(make([]byte, 300_000))
	send("syn")
	receive("ack")
	for i := range 100 { // without waiting
		send("append", "k", fmt.Sprint(i, ","), "large", large)
	}
	want := ""
	for i := range 100 {
		receive("ack")
		want += fmt.Sprint(i, ",")
	}
	send("get", "k", "missing")
	receive(want, "")
	receive("ack")
	send("append", "odd")
	if msg, err := s.Recv(); err != nil || len(msg.Frames) != 1 || string(msg.Frames[0][:7]) != "error: " {
		t.Fatalf("an append of one frame is answered with %q, %v", msg.Frames, err)
	}
	receive("ack")
	send("delete", "k", "large")
	receive("ack")
	send("get", "k")
	receive("")
	receive("ack")
	stop(t, p)
}
