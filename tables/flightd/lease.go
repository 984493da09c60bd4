package flightd

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/operations"
)

const (
	maxLeases    = 10_000 // with those that wait for a lock
	defaultLease = 30 * time.Second
	maxLease     = time.Hour
)

// leases are the locks that clients have: each ends by itself unless it is renewed.
type leases struct {
	mu     sync.Mutex
	count  int
	leases map[string]*lease
}

type lease struct {
	lock  *tables.Lock
	ttl   time.Duration
	timer *time.Timer
}

// lock does operations.TakeLock.
func (s *nativeServer) lock(ctx context.Context, _ *tables.Store, input any, answer func(any) error) error {
	c := input.(*operations.Lock)
	if c.Lease != "" {
		return s.renew(c.Lease, answer)
	}
	ttl := time.Duration(c.Seconds * float64(time.Second))
	if c.Seconds == 0 {
		ttl = defaultLease
	}
	if c.Seconds < 0 || c.Seconds > maxLease.Seconds() || ttl < time.Millisecond {
		return status.Errorf(codes.InvalidArgument, "a lease of %v seconds: it has to be from 0.001 to %v, or 0 for %v", c.Seconds, maxLease.Seconds(), defaultLease.Seconds())
	}
	l := &s.leases
	l.mu.Lock()
	full := l.count >= maxLeases
	if !full {
		l.count++
	}
	l.mu.Unlock()
	if full {
		return status.Errorf(codes.ResourceExhausted, "%d locks are held or waited for: try again later", maxLeases)
	}
	lock, err := s.store.Bucket(c.Bucket).Lock(ctx, c.Name)
	id := rand.Text()
	l.mu.Lock()
	if err != nil {
		l.count--
	} else {
		l.leases[id] = &lease{lock, ttl, time.AfterFunc(ttl, func() { _ = s.endLease(id) })}
	}
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return answer(operations.Lock{Lease: id, Seconds: ttl.Seconds()})
}

func (s *nativeServer) renew(id string, answer func(any) error) error {
	s.leases.mu.Lock()
	l := s.leases.leases[id]
	live := l != nil && l.timer.Stop()
	if live {
		l.timer.Reset(l.ttl)
	}
	s.leases.mu.Unlock()
	if !live {
		return status.Error(codes.NotFound, "the lease has ended")
	}
	return answer(operations.Lock{Lease: id, Seconds: l.ttl.Seconds()})
}

// unlock does operations.Unlock.
func (s *nativeServer) unlock(_ context.Context, _ *tables.Store, input any, answer func(any) error) error {
	if err := s.endLease(input.(*operations.Lock).Lease); err != nil {
		return err
	}
	return answer(operations.None{})
}

// endLease ends a lease; one that has ended is no error.
func (s *nativeServer) endLease(id string) error {
	s.leases.mu.Lock()
	l := s.leases.leases[id]
	if l != nil {
		delete(s.leases.leases, id)
		s.leases.count--
		l.timer.Stop()
	}
	s.leases.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.lock.Unlock()
}

// unlockAll ends all leases.
func (s *nativeServer) unlockAll() {
	s.leases.mu.Lock()
	ids := slices.Collect(maps.Keys(s.leases.leases))
	s.leases.mu.Unlock()
	for _, id := range ids {
		_ = s.endLease(id)
	}
}
