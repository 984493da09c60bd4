package remote

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
)

// fullStore is a store that has no space for more than a few sessions.
type fullStore struct {
	*partd.Dict
	sessions atomic.Int32 // number of sessions that still fit
	drops    atomic.Int32
	wait     chan struct{} // Drop blocks until it is closed
}

func (s *fullStore) NewSession(ctx context.Context) (uint64, error) {
	if s.sessions.Add(-1) >= 0 {
		return s.Dict.NewSession(ctx)
	}
	return 0, fmt.Errorf("the disk is full: %w", syscall.ENOSPC)
}

func (s *fullStore) Drop(ctx context.Context) error {
	s.drops.Add(1)
	<-s.wait
	return s.Dict.Drop(ctx)
}

// TestDropWithoutSession checks that Drop succeeds if the store has no space for a session, and is sent only once.
func TestDropWithoutSession(t *testing.T) {
	ctx := t.Context()
	store := &fullStore{Dict: partd.NewDict(), wait: make(chan struct{})}
	must.Do(t, store.Append(ctx, entry("k", "v")))
	_, url := serve(t, store, nil)
	p := newProxy(t, url, nettest.CutNever)
	c := dial(t, p.URL(), nil)
	if err := c.Append(ctx, entry("k", "v")); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("Append = %v, want ENOSPC", err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Drop(ctx) }()
	for store.drops.Load() == 0 {
		if time.Sleep(time.Millisecond); len(done) > 0 {
			t.Fatal(<-done)
		}
	}
	p.Cut()
	if err := <-done; !errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("Drop over a broken connection = %v, want ErrUnknownOutcome", err)
	}
	close(store.wait)
	must.Do(t, c.Drop(ctx))
	v, err := store.Get(ctx, "k")
	if n := store.drops.Load(); err != nil || n != 2 || len(v[0]) > 0 {
		t.Errorf("after %d drops, want 2, the store has %q, %v", n, v, err)
	}
}

// TestDropAfterExpiredSession checks that Drop succeeds if the store has forgotten the session and has no space for
// another.
func TestDropAfterExpiredSession(t *testing.T) {
	ctx := t.Context()
	store := &fullStore{Dict: partd.NewDict(), wait: make(chan struct{})}
	close(store.wait)
	store.sessions.Store(1)
	_, url := serve(t, store, nil)
	c := dial(t, url, nil)
	must.Do(t, c.Append(ctx, entry("k", "v")))
	must.Do(t, store.EndSession(ctx, c.calls.ops.session))
	must.Do(t, c.Drop(ctx))
	wantValue(t, store, "k", "")
}
