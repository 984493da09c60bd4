package namespaces

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/remote"
)

// patience is how long an operation waits for a store to be closed for it.
const patience = 20 * time.Second

// tenure is how long a store stays open before it makes way: while somebody waits,
// operations on one that is older wait, too, until one is out of use. What is being
// read for long will not be, so nobody waits for that.
const tenure = 50 * time.Millisecond

// rest is for how long a younger one must have been out of use to be closed.
const rest = 10 * time.Millisecond

// endIdlePoll is how often idle readers are looked for while a store is waited for.
const endIdlePoll = 50 * time.Millisecond

// acquire returns the open store of a namespace until release is called, or nil
// where it does not exist and is not to be made. Long says that it is to be read for
// longer than an operation takes.
func (s *Set) acquire(ctx context.Context, name string, create, long bool) (store partd.Partd, release func(), err error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	var turn *list.Element // in queue
	leaveQueue := func() {
		if turn != nil {
			s.queue.Remove(turn)
			turn = nil
			s.announce()
		}
	}
	defer leaveQueue()
	for {
		if s.closed {
			return nil, nil, fmt.Errorf("namespace %s: %w", name, partd.ErrClosed)
		}
		e := s.entry(name)
		var wait <-chan struct{}
		var again <-chan time.Time
		var endIdle func()
		switch {
		case e.changing != nil:
			leaveQueue() // others need not wait for as long as that takes
			wait = e.changing
		case e.store != nil && s.makesWay(e):
			wait = s.freed // so that it may be closed for who has waited
		case e.store != nil:
			s.lease(e)
			if long {
				e.long++
			}
			return e.store, func() { s.release(e, long) }, nil
		case !create && !s.exists(name):
			s.forget(e)
			return nil, func() {}, nil
		case s.queue.Len() > 0 && s.queue.Front() != turn:
			wait = s.freed
			if turn == nil {
				turn = s.queue.PushBack(name)
			}
		case s.opened < s.opts.MaxOpen:
			leaveQueue()
			if err := s.open(ctx, e, nil); err != nil {
				return nil, nil, err
			}
			continue
		default:
			victim, in := s.victim()
			if victim != nil {
				leaveQueue()
				if err := s.open(ctx, e, victim); err != nil {
					return nil, nil, err
				}
				continue
			}
			wait, again = s.freed, time.After(in)
			if turn == nil {
				turn = s.queue.PushBack(name)
			}
			if s.idle.Len() == 0 {
				endIdle = s.endIdle
			}
		}
		s.mu.Unlock()
		if endIdle != nil {
			endIdle()
		}
		select {
		case <-wait:
		case <-again:
		case <-ctx.Done():
			err = canceled.Err(ctx)
		case <-late.C:
			err = fmt.Errorf("%w: the stores of %d namespaces are open and in use", remote.ErrBusy, s.opts.MaxOpen)
		}
		s.mu.Lock()
		if err != nil {
			s.forget(e)
			return nil, nil, err
		}
	}
}

// makesWay reports whether operations on an open store have to wait, so that it may
// be closed for others. mu is held.
func (s *Set) makesWay(e *entry) bool {
	first := s.queue.Front()
	return first != nil && first.Value != e.name && e.long == 0 && time.Since(e.opened) > tenure
}

// victim returns a store that may be closed for another, or in what time to look
// again. mu is held.
func (s *Set) victim() (victim *entry, in time.Duration) {
	in = endIdlePoll
	for p := s.idle.Front(); p != nil; p = p.Next() {
		e := p.Value.(*entry)
		left := min(tenure-time.Since(e.opened), rest-time.Since(e.used))
		if left <= 0 {
			return e, 0
		}
		in = min(in, left)
	}
	return nil, in
}

func (s *Set) exists(name string) bool {
	_, err := os.Lstat(s.path(name))
	return !errors.Is(err, fs.ErrNotExist)
}

// lease marks an open store as in use. mu is held.
func (s *Set) lease(e *entry) {
	e.leases++
	if e.place != nil {
		s.idle.Remove(e.place)
		e.place = nil
	}
}

func (s *Set) release(e *entry, long bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if long {
		e.long--
	}
	e.used = time.Now()
	s.endLease(e)
	// Marked now and then, not for each append.
	if time.Since(e.touched) > max(s.opts.TTL/16, time.Second) {
		s.touch(e)
	}
}

// endLease undoes lease. Where that was no use, the store counts as unused since it
// was used last. mu is held.
func (s *Set) endLease(e *entry) {
	if e.leases--; e.leases > 0 {
		return
	}
	p := s.idle.Back()
	for p != nil && p.Value.(*entry).used.After(e.used) {
		p = p.Prev()
	}
	if p == nil {
		e.place = s.idle.PushFront(e)
	} else {
		e.place = s.idle.InsertAfter(e, p)
	}
	s.announce()
}
