package remote

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestShutdown checks that Shutdown waits for requests in progress.
func TestShutdown(t *testing.T) {
	inner := partd.NewDict()
	store := &faultyStore{Partd: inner, unblock: make(chan struct{})}
	s := must.Get(NewServer(store, nil))(t)
	l := must.Get(Listen("tcp://127.0.0.1:0"))(t)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	c := dial(t, URL(l.Addr()), nil)
	appended := make(chan error, 1)
	go func() { appended <- c.Append(ctx, entry("k", "v")) }()
	store.waitBlocked(t)
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(ctx) }()
	must.NotReceive(t, ended, 50*time.Millisecond, "Shutdown returned while a request was in progress")
	close(store.unblock)
	must.Do(t, <-appended)
	must.Do(t, <-ended)
	must.Do(t, <-served)
	must.Do(t, s.Shutdown(ctx))
	late := must.Get(Listen("tcp://127.0.0.1:0"))(t)
	must.Do(t, s.Serve(ctx, late)) // a program cannot know whether its goroutine calls Serve before Shutdown
	must.Fail(t, must.Err(late.Accept()), net.ErrClosed, "after Serve, Accept")
	wantValue(t, inner, "k", "v")
}

// TestShutdownIsBounded checks that Shutdown returns when its context ends, even if the store hangs.
func TestShutdownIsBounded(t *testing.T) {
	store := &faultyStore{Partd: partd.NewDict(), unblock: make(chan struct{})}
	s := must.Get(NewServer(store, nil))(t)
	l := must.Get(Listen("tcp://127.0.0.1:0"))(t)
	go s.Serve(context.Background(), l)
	c := dial(t, URL(l.Addr()), &ClientOptions{RetryFor: time.Millisecond})
	appended := make(chan error, 1)
	go func() { appended <- c.Append(context.Background(), entry("k", "v")) }()
	store.waitBlocked(t)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	must.Fail(t, s.Shutdown(ctx), context.DeadlineExceeded, "Shutdown")
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("Shutdown took %v, want about 100 ms", d)
	}
	// The store's own error reaches the client if the server can still send it.
	if err := <-appended; !errors.Is(err, partd.ErrUnknownOutcome) && (err == nil || !strings.Contains(err.Error(), "context canceled")) {
		t.Errorf("the interrupted Append = %v, want ErrUnknownOutcome or the store's error", err)
	}
}

// TestShutdownOfSilentPeers checks that Shutdown does not wait for peers that have not finished their handshake.
func TestShutdownOfSilentPeers(t *testing.T) {
	s, url := serve(t, partd.NewDict(), &ServerOptions{HandshakeTimeout: time.Hour, DrainTimeout: time.Minute})
	rawPeer(t, url)
	half := rawPeer(t, url)
	half.send(greeting())
	dial(t, url, nil)
	begin := time.Now()
	must.Do(t, s.Shutdown(context.Background()))
	if d := time.Since(begin); d > 50*time.Second {
		t.Errorf("Shutdown took %v, want less than DrainTimeout", d)
	}
}

// slowReader requests more data than sockets can buffer, and reads only the first bytes of the answer.
func slowReader(t *testing.T, url string) *peer {
	p := openPeer(t, url)
	p.send(message("append", "large", string(make([]byte, 16<<20))))
	p.wantBytes(acked)
	p.send(message("get", "large", "large", "large", "large"))
	var firstBytes [9]byte
	must.Get(p.Read(firstBytes[:]))(t)
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
		must.Do(t, err)
	case <-time.After(20 * time.Second):
		t.Error("20 s after it was called, Shutdown is still waiting for a peer that does not read")
		must.Do(t, p.Close())
		must.Do(t, <-done)
	}
}

// TestShutdownFlushesFirst checks that acknowledged data is flushed before Shutdown waits for peers.
func TestShutdownFlushesFirst(t *testing.T) {
	ctx := t.Context()
	slow := partd.NewDict()
	b := must.Get(partd.NewBuffer(partd.NewDict(), slow, nil))(t)
	s, url := serve(t, b, &ServerOptions{DrainTimeout: time.Hour, StallTimeout: time.Hour})
	p := slowReader(t, url)
	must.Do(t, dial(t, url, nil).Append(ctx, entry("k", "v")))
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if v := must.Get(slow.Get(ctx, "k"))(t); string(v[0]) == "v" {
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
	must.Do(t, p.Close())
	must.Do(t, <-done)
}
