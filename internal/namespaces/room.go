package namespaces

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/space"
	"github.com/go-partd/partd/remote"
)

// room is that of one namespace: its own, of the quota that each has, and the disk's,
// which all share.
type room struct {
	set   *Set
	name  string
	begin sync.Once
	quota *space.Guard // nil without one
}

// Room implements [remote.Namespaces].
func (s *Set) Room(name string) remote.Room {
	if s.opts.MaxBytes == 0 && s.disk == nil {
		return nil
	}
	return &room{set: s, name: name}
}

// Take admits what both have room for.
func (r *room) Take(entries int, bytes int64) (int64, error) {
	r.begin.Do(func() { // by who needs it, as it looks at the files
		r.quota, _ = space.New(space.Limits{MaxBytes: r.set.opts.MaxBytes, Used: r.used, Pending: r.pending, GiveBack: r.giveBack}) // it always measures
	})
	taken, err := r.quota.Take(entries, bytes)
	if err == nil {
		var shared int64
		if shared, err = r.set.disk.Take(entries, bytes); err == nil {
			return max(taken, shared), nil // they count alike
		}
		r.quota.Done(taken)
	}
	r.set.refused.Add(1)
	return 0, err
}

func (r *room) Done(taken int64) {
	r.quota.Done(taken)
	r.set.disk.Done(taken)
}

func (r *room) used() (bytes int64, err error) {
	err = errors.ErrUnsupported // unless it is open
	r.set.measure(r.name, func(s partd.Partd) { bytes, _, err = r.set.opts.Sizes(s) })
	if err != nil {
		bytes = diskOf(r.set.path(r.name))
	}
	return bytes, nil
}

func (r *room) pending() (bytes int64) {
	r.set.measure(r.name, func(s partd.Partd) { _, bytes, _ = r.set.opts.Sizes(s) })
	return bytes
}

// giveBackTime is how long a store stays open, for what others wait then, to give
// back what it can.
const giveBackTime = 10 * time.Second

func (r *room) giveBack() {
	ctx, cancel := context.WithTimeout(context.Background(), giveBackTime)
	defer cancel()
	go func() {
		select {
		case <-r.set.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	store, release, err := r.set.acquire(ctx, r.name, false, true)
	if err != nil || store == nil {
		return // the next change that is refused comes here, too
	}
	defer release()
	r.set.opts.GiveBack(ctx, store)
}

// pending is what all open stores are yet to write out.
func (s *Set) pending() (sum int64) {
	s.measure("", func(s1 partd.Partd) {
		_, bytes, _ := s.opts.Sizes(s1)
		sum += bytes
	})
	return sum
}

// measure calls f with the open store of a namespace, or of each where the name is
// "". None is opened for it.
func (s *Set) measure(name string, f func(partd.Partd)) {
	s.mu.Lock()
	var open []*entry
	for _, e := range s.entries {
		if e.store != nil && e.changing == nil && (name == "" || e.name == name) {
			s.lease(e)
			open = append(open, e)
		}
	}
	s.mu.Unlock()
	for _, e := range open {
		f(e.store)
		s.mu.Lock()
		s.endLease(e) // and not release: who only looks does not use it
		s.mu.Unlock()
	}
}

// Figures are what there is to watch.
type Figures struct {
	Open, MaxOpen int   // stores
	InUse         int   // namespaces that clients are connected to
	Refused       int64 // changes for want of room, ever
}

// Figures returns what there is to watch.
func (s *Set) Figures() Figures {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := Figures{Open: s.opened, MaxOpen: s.opts.MaxOpen, Refused: s.refused.Load()}
	for _, e := range s.entries {
		if e.users > 0 {
			f.InUse++
		}
	}
	return f
}
