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
			t.Errorf("get without a server: %v", err)
		}
		if d := time.Since(begin); d < 100*time.Millisecond || d > 10*time.Second {
			t.Errorf("the calls took %v", d)
		}
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := c.Append(short, entry("k", "v")); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("append without a server: %v", err)
	}
	if _, err := Dial(ctx, URL(l.Addr()), nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial without a server: %v", err)
	}
}

// TestShutdown checks that requests in progress finish.
func TestShutdown(t *testing.T) {
	ctx := context.Background()
	inner := partd.NewDict()
	store := &faulty{Partd: inner, wait: make(chan struct{})}
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
		t.Error("Shutdown does not wait for requests in progress")
	case <-time.After(50 * time.Millisecond):
	}
	close(store.wait)
	must(t, <-appended)
	must(t, <-ended)
	must(t, <-served)
	must(t, s.Shutdown(ctx))
	if err := s.Serve(ctx, l); !errors.Is(err, partd.ErrClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
	if v, err := inner.Get(ctx, "k"); err != nil || string(v[0]) != "v" {
		t.Errorf("the store has %q, %v", v, err)
	}
}

// TestShutdownIsBounded checks that Shutdown ends with its context although the store
// hangs.
func TestShutdownIsBounded(t *testing.T) {
	store := &faulty{Partd: partd.NewDict(), wait: make(chan struct{})}
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
		t.Error(err)
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("Shutdown took %v", d)
	}
	// The store's own error reaches the client if the server can still send it.
	if err := <-appended; !errors.Is(err, partd.ErrUnknownOutcome) && (err == nil || !strings.Contains(err.Error(), "context canceled")) {
		t.Errorf("an interrupted append: %v", err)
	}
}
