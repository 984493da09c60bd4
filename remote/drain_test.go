package remote

import (
	"context"
	"testing"
	"time"

	"github.com/go-partd/partd"
)

// slowReader requests more data than sockets can buffer, and reads only the first bytes of the answer.
func slowReader(t *testing.T, url string) *peer {
	p := openPeer(t, url)
	p.send(message("append", "large", string(make([]byte, 16<<20))))
	p.wantBytes(acked)
	p.send(message("get", "large", "large", "large", "large"))
	var firstBytes [9]byte
	_, err := p.Read(firstBytes[:])
	must(t, err)
	return p
}

// TestSlowReaderDoesNotBlockShutdown checks that Shutdown disconnects a peer that does not read its answer.
func TestSlowReaderDoesNotBlockShutdown(t *testing.T) {
	s, url := serve(t, partd.NewDict(), &ServerOptions{DrainTimeout: 200 * time.Millisecond, StallTimeout: time.Hour})
	p := slowReader(t, url)
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(20 * time.Second):
		t.Error("20 s after it was called, Shutdown is still waiting for a peer that does not read")
		must(t, p.Close())
		must(t, <-done)
	}
}

// TestShutdownFlushesFirst checks that acknowledged data is flushed before Shutdown waits for peers.
func TestShutdownFlushesFirst(t *testing.T) {
	ctx := t.Context()
	slow := partd.NewDict()
	b, err := partd.NewBuffer(partd.NewDict(), slow, nil)
	must(t, err)
	s, url := serve(t, b, &ServerOptions{DrainTimeout: time.Hour, StallTimeout: time.Hour})
	p := slowReader(t, url)
	must(t, dial(t, url, nil).Append(ctx, entry("k", "v")))
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		v, err := slow.Get(ctx, "k")
		if must(t, err); string(v[0]) == "v" {
			break
		}
		if time.Now().After(end) {
			t.Error("Shutdown did not flush acknowledged data while a peer read nothing")
			break
		}
	}
	select {
	case <-done:
		t.Error("Shutdown has returned although a peer has not read its answer, so the test proves nothing")
	default:
	}
	must(t, p.Close())
	must(t, <-done)
}
