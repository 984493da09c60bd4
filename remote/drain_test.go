package remote

import (
	"context"
	"testing"
	"time"

	"github.com/go-partd/partd"
)

// slowReader requests more data than sockets can buffer, and reads nothing.
func slowReader(t *testing.T, url string) *peer {
	p := openPeer(t, url)
	p.send(message("append", "large", string(make([]byte, 16<<20))))
	p.wantBytes(acked)
	p.send(message("get", "large", "large", "large", "large"))
	var begun [9]byte
	_, err := p.Read(begun[:])
	must(t, err)
	return p
}

// TestSlowReaderHoldsUpNoShutdown checks that Shutdown disconnects a peer that does not
// read its answer.
func TestSlowReaderHoldsUpNoShutdown(t *testing.T) {
	s, url := serve(t, partd.NewDict(), &ServerOptions{DrainTimeout: 200 * time.Millisecond, StallTimeout: time.Hour})
	p := slowReader(t, url)
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(20 * time.Second):
		t.Error("Shutdown waits for a peer that reads nothing")
		must(t, p.Close())
		must(t, <-done)
	}
}

// TestShutdownFlushesFirst checks that acknowledged data is flushed before Shutdown
// waits for peers.
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
			t.Error("acknowledged data is not flushed while a peer reads nothing")
			break
		}
	}
	select {
	case <-done:
		t.Error("the peer did not delay Shutdown, so the test shows nothing")
	default:
	}
	must(t, p.Close())
	must(t, <-done)
}
