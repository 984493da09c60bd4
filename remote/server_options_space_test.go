package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
)

// switchedLimit is a SpaceLimit that refuses all changes while full is set.
type switchedLimit struct {
	full     atomic.Bool
	pending  atomic.Int64 // bytes of admitted changes in progress
	admitted atomic.Int64 // bytes of all admitted changes
}

func (r *switchedLimit) Admit(entries int, bytes int64) (int64, error) {
	if r.full.Load() {
		return 0, syscall.EDQUOT
	}
	r.pending.Add(bytes)
	r.admitted.Add(bytes)
	return bytes, nil
}

func (r *switchedLimit) Done(admitted int64) { r.pending.Add(-admitted) }

// TestSpaceLimit checks that a full limit refuses only changes that need space. A resent change
// that was applied must still be answered as applied. Otherwise its client would repeat it later.
func TestSpaceLimit(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			store, limit := open(t), &switchedLimit{}
			s, url := serve(t, store, &ServerOptions{SpaceLimit: limit})
			c := dial(t, url, nil)
			must.Do(t, errors.Join(c.Append(ctx, entry("k", "1"), entry("p", "2")), c.Set(ctx, "s", []byte("3"))))
			id, err := c.NewSession(ctx)
			must.Do(t, err)
			op := func(value string) partd.Operation { return partd.Operation{Entries: []partd.Entry{entry("k", value)}} }
			must.Get(c.Apply(ctx, partd.Tag{Session: id, Number: 1}, op("4")))(t)
			if n := limit.admitted.Load(); n != 8 || limit.pending.Load() != 0 {
				t.Errorf("%d bytes were admitted and %d are pending, want 8 and 0", n, limit.pending.Load())
			}
			limit.full.Store(true)
			expectRefused := func(label string, err error) {
				t.Helper()
				if !errors.Is(err, syscall.EDQUOT) || errors.Is(err, partd.ErrUnknownOutcome) {
					t.Errorf("%s without space = %v, want EDQUOT", label, err)
				}
			}
			expectRefused("Append", c.Append(ctx, entry("k", "5")))
			expectRefused("Set", c.Set(ctx, "s", []byte("5")))
			expectRefused("SetOnce", c.SetOnce(ctx, "new", []byte("5")))
			other := dial(t, url, nil)
			expectRefused("Append in a new session", other.Append(ctx, entry("k", "5")))
			_, err = c.Apply(ctx, partd.Tag{Session: id, Number: 2}, op("5"))
			expectRefused("Apply of the next operation", err)
			if applied, err := c.Apply(ctx, partd.Tag{Session: id, Number: 1}, op("4")); applied || err != nil {
				t.Errorf("Apply of an applied operation without space = %v, %v, want false, nil", applied, err)
			}
			if v, err := c.Pop(ctx, "p"); err != nil || string(v[0]) != "2" {
				t.Errorf("Pop without space = %q, %v, want 2", v, err)
			}
			must.Do(t, c.Delete(ctx, "s"))
			v := must.Get(c.Get(ctx, "k", "s", "new", "p"))(t)
			if string(v[0]) != "14" || len(v[1])+len(v[2])+len(v[3]) > 0 {
				t.Errorf("without space, the store has %q, want 14", v)
			}
			limit.full.Store(false)
			must.Do(t, errors.Join(other.Append(ctx, entry("k", "6")), c.Append(ctx, entry("k", "7"))))
			must.Get(c.Apply(ctx, partd.Tag{Session: id, Number: 2}, op("8")))(t)
			wantValue(t, c, "k", "14678")
			limit.full.Store(true)
			must.Do(t, c.Drop(ctx))
			if n := s.meters.storeErrors.Load(); n != 0 {
				t.Errorf("%d refused requests count as errors of the store, want 0", n)
			}
		})
	}
}

// TestSpaceLimitAfterRestart checks that a restarted server without space accepts a resent change that was already
// applied.
func TestSpaceLimitAfterRestart(t *testing.T) {
	ctx, store := context.Background(), partd.NewDict()
	_, url := serve(t, store, nil)
	p := newProxy(t, url, nettest.CutNever)
	c := dial(t, p.URL(), nil)
	op := partd.Operation{Entries: []partd.Entry{entry("k", "1")}}
	id := must.Get(c.NewSession(ctx))(t)
	must.Get(c.Apply(ctx, partd.Tag{Session: id, Number: 1}, op))(t)
	limit := &switchedLimit{}
	limit.full.Store(true)
	_, nextURL := serve(t, store, &ServerOptions{SpaceLimit: limit})
	p.Redirect(strings.TrimPrefix(nextURL, "tcp://"))
	p.Cut()
	if applied, err := c.Apply(ctx, partd.Tag{Session: id, Number: 1}, op); applied || err != nil {
		t.Errorf("Apply of an applied operation at the next server = %v, %v, want false, nil", applied, err)
	}
	if _, err := c.Apply(ctx, partd.Tag{Session: id, Number: 2}, op); !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("Apply of the next operation = %v, want EDQUOT", err)
	}
}

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
	must.Eventually(t, time.Minute, "no drop has reached the store", func() bool { return store.drops.Load() > 0 })
	p.Cut()
	must.Fail(t, <-done, partd.ErrUnknownOutcome, "Drop over a broken connection")
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
	store := &fullStore{Dict: partd.NewDict(), wait: make(chan struct{})}
	close(store.wait)
	store.sessions.Store(1)
	_, c := serveClient(t, store, nil)
	must.Do(t, c.Append(ctx, entry("k", "v")))
	must.Do(t, store.EndSession(ctx, c.calls.ops.session))
	must.Do(t, c.Drop(ctx))
	wantValue(t, store, "k", "")
}
