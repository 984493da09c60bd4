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
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/remote"
)

// maxWait is how long an operation waits until its store can be opened.
const maxWait = 20 * time.Second

// minOpenTime is how long a store stays open even if an operation waits to open another store.
// After that time, new operations on the store wait, so that it becomes idle and can be closed.
// They do not wait if the store has a long read, because the store would not become idle soon.
const minOpenTime = 50 * time.Millisecond

// minIdleTime is how long a store must be idle before another store can replace it, unless it was
// open for minOpenTime.
const minIdleTime = 10 * time.Millisecond

// endIdlePoll is the interval at which a waiting operation ends idle reads, which keep stores open.
const endIdlePoll = 50 * time.Millisecond

// acquireStore opens the store of a namespace if necessary, and returns it. The store stays open
// until release is called. If the namespace does not exist and create is false, the store is nil.
// If long is true, the caller may use the store for longer than one operation.
func (s *Set) acquireStore(ctx context.Context, name string, create, long bool) (store partd.Partd, release func(), err error) {
	deadline := time.NewTimer(maxWait)
	defer deadline.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	var ticket *list.Element // this operation's element in queue, or nil
	leaveQueue := func() {
		if ticket != nil {
			s.queue.Remove(ticket)
			ticket = nil
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
		var retry <-chan time.Time
		var endIdle func()
		switch {
		case e.changing != nil:
			leaveQueue() // opening or closing can take long, so do not block other operations
			wait = e.changing
		case e.store != nil && s.mustWait(e):
			wait = s.freed // do not use the store: it must become idle, so that a waiting operation can replace it
		case e.store != nil:
			s.lease(e)
			if long {
				e.longUses++
			}
			return e.store, func() { s.release(e, long) }, nil
		case !create && !s.exists(name):
			s.forget(e)
			return nil, func() {}, nil
		case s.queue.Len() > 0 && s.queue.Front() != ticket:
			wait = s.freed
			if ticket == nil {
				ticket = s.queue.PushBack(name)
			}
		default:
			victim, retryIn := s.pickVictim()
			if retryIn <= 0 {
				leaveQueue()
				if err := s.open(ctx, e, victim); err != nil {
					return nil, nil, err
				}
				continue
			}
			wait, retry = s.freed, time.After(retryIn)
			if ticket == nil {
				ticket = s.queue.PushBack(name)
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
		case <-retry:
		case <-ctx.Done():
			err = canceled.Err(ctx)
		case <-deadline.C:
			err = fmt.Errorf("%w: all %d stores that can be open for namespaces are in use", remote.ErrBusy, s.opts.MaxOpen)
		}
		s.mu.Lock()
		if err != nil {
			s.forget(e)
			return nil, nil, err
		}
	}
}

// mustWait reports whether new operations on an open store must wait, so that it can be closed to
// make room for another store. mu must be held.
func (s *Set) mustWait(e *entry) bool {
	first := s.queue.Front()
	return first != nil && first.Value != e.name && e.longUses == 0 && time.Since(e.openedAt) > minOpenTime
}

// pickVictim returns an idle store to close so that another one can be opened, or nil if no store
// needs to be closed. If retryIn is above 0, the caller must wait that long and try again. mu must be held.
func (s *Set) pickVictim() (victim *entry, retryIn time.Duration) {
	if s.openCount < s.opts.MaxOpen {
		return nil, 0
	}
	retryIn = endIdlePoll
	for p := s.idle.Front(); p != nil; p = p.Next() {
		e := p.Value.(*entry)
		remaining := min(minOpenTime-time.Since(e.openedAt), minIdleTime-time.Since(e.lastUsed))
		if remaining <= 0 {
			return e, 0
		}
		retryIn = min(retryIn, remaining)
	}
	return nil, retryIn
}

func (s *Set) exists(name string) bool {
	_, err := os.Lstat(s.path(name))
	return !errors.Is(err, fs.ErrNotExist)
}

// lease marks an open store as in use. mu must be held.
func (s *Set) lease(e *entry) {
	e.leases++
	if e.idleElement != nil {
		s.idle.Remove(e.idleElement)
		e.idleElement = nil
	}
}

func (s *Set) release(e *entry, long bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if long {
		e.longUses--
	}
	e.lastUsed = time.Now()
	s.endLease(e)
	// Marking the directory as used on each release would be slow and is not necessary.
	if time.Since(e.touchedAt) > max(s.opts.TTL/16, time.Second) {
		s.touch(e)
	}
}

// endLease undoes lease. If the store is then idle, endLease inserts it into the list idle, which is
// sorted by the time of last use. mu must be held.
func (s *Set) endLease(e *entry) {
	if e.leases--; e.leases > 0 {
		return
	}
	p := s.idle.Back()
	for p != nil && p.Value.(*entry).lastUsed.After(e.lastUsed) {
		p = p.Prev()
	}
	if p == nil {
		e.idleElement = s.idle.PushFront(e)
	} else {
		e.idleElement = s.idle.InsertAfter(e, p)
	}
	s.announce()
}
