package remote

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
)

// TestNoServer checks that a client stops trying to connect after its time limit.
func TestNoServer(t *testing.T) {
	ctx := context.Background()
	s, err := NewServer(partd.NewDict(), nil)
	must(t, err)
	l, err := Listen("tcp://127.0.0.1:0")
	must(t, err)
	go s.Serve(ctx, l)
	c := dial(t, URL(l.Addr()), &ClientOptions{RetryFor: 200 * time.Millisecond})
	must(t, c.Append(ctx, entry("k", "v")))
	must(t, s.Shutdown(ctx))
	for range 2 {
		begin := time.Now()
		if _, err := c.Get(ctx, "k"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Get without a server = %v, want ECONNREFUSED", err)
		}
		if d := time.Since(begin); d < 100*time.Millisecond || d > 10*time.Second {
			t.Errorf("Get without a server took %v, want about 200 ms", d)
		}
	}
	shortCtx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := c.Append(shortCtx, entry("k", "v")); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("Append without a server = %v, want DeadlineExceeded", err)
	}
	if _, err := Dial(ctx, URL(l.Addr()), nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial without a server = %v, want ECONNREFUSED", err)
	}
}

// TestShutdown checks that Shutdown waits for requests in progress.
func TestShutdown(t *testing.T) {
	ctx := context.Background()
	inner := partd.NewDict()
	store := &faultyStore{Partd: inner, unblock: make(chan struct{})}
	s, err := NewServer(store, nil)
	must(t, err)
	l, err := Listen("tcp://127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	c := dial(t, URL(l.Addr()), nil)
	appended := make(chan error, 1)
	go func() { appended <- c.Append(ctx, entry("k", "v")) }()
	time.Sleep(50 * time.Millisecond)
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(ctx) }()
	select {
	case <-ended:
		t.Error("Shutdown returned while a request was in progress")
	case <-time.After(50 * time.Millisecond):
	}
	close(store.unblock)
	must(t, <-appended)
	must(t, <-ended)
	must(t, <-served)
	must(t, s.Shutdown(ctx))
	if err := s.Serve(ctx, l); !errors.Is(err, partd.ErrClosed) {
		t.Errorf("Serve after Shutdown = %v, want ErrClosed", err)
	}
	if v, err := inner.Get(ctx, "k"); err != nil || string(v[0]) != "v" {
		t.Errorf("the store has %q, %v, want v", v, err)
	}
}

// TestShutdownIsBounded checks that Shutdown returns when its context ends, even if the store hangs.
func TestShutdownIsBounded(t *testing.T) {
	store := &faultyStore{Partd: partd.NewDict(), unblock: make(chan struct{})}
	s, err := NewServer(store, nil)
	must(t, err)
	l, err := Listen("tcp://127.0.0.1:0")
	must(t, err)
	go s.Serve(context.Background(), l)
	c := dial(t, URL(l.Addr()), &ClientOptions{RetryFor: time.Millisecond})
	appended := make(chan error, 1)
	go func() { appended <- c.Append(context.Background(), entry("k", "v")) }()
	time.Sleep(50 * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown = %v, want DeadlineExceeded", err)
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("Shutdown took %v, want about 100 ms", d)
	}
	// The store's own error reaches the client if the server can still send it.
	if err := <-appended; !errors.Is(err, partd.ErrUnknownOutcome) && (err == nil || !strings.Contains(err.Error(), "context canceled")) {
		t.Errorf("the interrupted Append = %v, want ErrUnknownOutcome or the store's error", err)
	}
}
