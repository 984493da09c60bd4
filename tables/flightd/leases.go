package flightd

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

const (
	maxLeases    = 10_000 // limit on the number of leases plus the number of calls waiting for a lock
	defaultLease = 30 * time.Second
	maxLease     = time.Hour
)

// leases contains the locks that clients hold. A lease expires unless the client renews it.
type leases struct {
	mu    sync.Mutex
	count int // number of leases plus the number of calls waiting for a lock
	byID  map[string]*lease
}

type lease struct {
	lock  *tables.Lock
	ttl   time.Duration
	timer *time.Timer
}

// take implements operations.TakeLock: it takes a lock or renews a lease.
func (l *leases) take(ctx context.Context, store *tables.Store, input any, answer func(any) error) error {
	c := input.(*operations.Lock)
	if c.Lease != "" {
		return l.renew(c.Lease, answer)
	}
	ttl := time.Duration(c.Seconds * float64(time.Second))
	if c.Seconds == 0 {
		ttl = defaultLease
	}
	if c.Seconds < 0 || c.Seconds > maxLease.Seconds() || ttl < time.Millisecond {
		return kinds.BadRequest.Errorf("a lease of %v seconds is invalid: it must be from 0.001 to %v, or 0 for the default of %v", c.Seconds, maxLease.Seconds(), defaultLease.Seconds())
	}
	l.mu.Lock()
	isFull := l.count >= maxLeases
	if !isFull {
		l.count++
	}
	l.mu.Unlock()
	if isFull {
		return kinds.Busy.Errorf("%d locks are held or requested: try again later", maxLeases)
	}
	lock, err := store.Bucket(c.Bucket).Table(c.Name).Lock(ctx)
	id := rand.Text()
	l.mu.Lock()
	if err != nil {
		l.count--
	} else {
		l.byID[id] = &lease{lock, ttl, time.AfterFunc(ttl, func() { _ = l.end(id) })} // fails only if the lock's file cannot be removed
	}
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return answer(operations.Lock{Lease: id, Seconds: ttl.Seconds()})
}

func (l *leases) renew(id string, answer func(any) error) error {
	l.mu.Lock()
	held := l.byID[id]
	isLive := held != nil && held.timer.Stop()
	if isLive {
		held.timer.Reset(held.ttl)
	}
	l.mu.Unlock()
	if !isLive {
		return kinds.NotFound.Errorf("the lease of the lock has expired or was released: take the lock again")
	}
	return answer(operations.Lock{Lease: id, Seconds: held.ttl.Seconds()})
}

// release implements operations.Unlock.
func (l *leases) release(_ context.Context, _ *tables.Store, input any, answer func(any) error) error {
	if err := l.end(input.(*operations.Lock).Lease); err != nil {
		return err
	}
	return answer(operations.None{})
}

// end releases the lock of a lease, unless the lease has ended already.
func (l *leases) end(id string) error {
	l.mu.Lock()
	held := l.byID[id]
	if held != nil {
		delete(l.byID, id)
		l.count--
		held.timer.Stop()
	}
	l.mu.Unlock()
	if held == nil {
		return nil
	}
	return held.lock.Unlock()
}

func (l *leases) endAll() {
	l.mu.Lock()
	ids := slices.Collect(maps.Keys(l.byID))
	l.mu.Unlock()
	for _, id := range ids {
		_ = l.end(id) // fails only if the lock's file cannot be removed
	}
}
