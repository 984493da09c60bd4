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

// maxWait is how long an operation may wait for its store to be opened.
const maxWait = 20 * time.Second

// minOpenTime is how long a store stays open even if an operation is waiting to open another store.
// After that time, new operations on the store wait, so that it becomes idle and can be closed.
// They do not wait if the store has a long read, because the store would not become idle soon.
const minOpenTime = 50 * time.Millisecond

// minIdleTime is how long a store must be idle before another store can replace it, unless it was
// open for minOpenTime.
const minIdleTime = 10 * time.Millisecond

// endIdlePoll is the interval at which a waiting operation ends idle reads, which keep stores open.
const endIdlePoll = 50 * time.Millisecond

// turn is an operation's place in the queue of operations waiting to open a store.
type turn struct {
	s      *Set
	name   string        // the operation's namespace
	ticket *list.Element // in Set.queue; nil if the operation is not in the queue
}

func (t *turn) enterQueue() {
	if t.ticket == nil {
		t.ticket = t.s.queue.PushBack(t.name)
	}
}

func (t *turn) leaveQueue() {
	if t.ticket != nil {
		t.s.queue.Remove(t.ticket)
		t.ticket = nil
		t.s.announce()
	}
}

// wait describes when an operation should try again to use its store.
type wait struct {
	changed <-chan struct{}
	retry   <-chan time.Time // can be nil
	endIdle func()           // ends idle reads; nil if that is not necessary
}

// storeUse describes how a caller of acquireStore uses the store.
type storeUse struct {
	create bool // create the namespace if it does not exist
	long   bool // the caller may use the store for longer than one operation
}

// acquireStore returns the store of a namespace. It opens the store if necessary. The store stays open
// until release is called. If the namespace does not exist and use.create is false, the store is nil.
func (s *Set) acquireStore(ctx context.Context, name string, use storeUse) (store partd.Partd, release func(), err error) {
	deadline := time.NewTimer(maxWait)
	defer deadline.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &turn{s: s, name: name}
	defer t.leaveQueue()
	for {
		if s.closed {
			return nil, nil, fmt.Errorf("namespace %s: %w", name, partd.ErrClosed)
		}
		e := s.entry(name)
		isOpen := e.changing == nil && e.store != nil
		if isOpen && !s.mustWait(e) {
			s.lease(e)
			if use.long {
				e.longUses++
			}
			return e.store, func() { s.release(e, use.long) }, nil
		}
		if e.changing == nil && !isOpen && !use.create && !s.exists(name) {
			s.forget(e)
			return nil, func() {}, nil
		}
		w, err := t.tryOpen(ctx, e)
		if err != nil {
			return nil, nil, err
		}
		if w.changed == nil {
			continue
		}
		if err := s.await(ctx, w, deadline.C); err != nil {
			s.forget(e)
			return nil, nil, err
		}
	}
}

// tryOpen opens the store of e if it is the operation's turn. Otherwise, it returns when to try again. mu must be held.
func (t *turn) tryOpen(ctx context.Context, e *entry) (wait, error) {
	s := t.s
	if e.changing != nil {
		t.leaveQueue() // do not block other operations, because opening or closing can take long
		return wait{changed: e.changing}, nil
	}
	if e.store != nil { // do not use the store: it must become idle, because an operation is waiting to replace it
		return wait{changed: s.freed}, nil
	}
	if s.queue.Len() > 0 && s.queue.Front() != t.ticket {
		t.enterQueue()
		return wait{changed: s.freed}, nil
	}
	victim, retryIn := s.pickVictim()
	if retryIn <= 0 {
		t.leaveQueue()
		return wait{}, s.open(ctx, e, victim)
	}
	t.enterQueue()
	w := wait{changed: s.freed, retry: time.After(retryIn)}
	if s.idle.Len() == 0 {
		w.endIdle = s.endIdle
	}
	return w, nil
}

// await unlocks mu, waits as w describes and locks mu again. mu must be held.
func (s *Set) await(ctx context.Context, w wait, deadline <-chan time.Time) error {
	s.mu.Unlock()
	defer s.mu.Lock()
	if w.endIdle != nil {
		w.endIdle()
	}
	select {
	case <-w.changed:
		return nil
	case <-w.retry:
		return nil
	case <-ctx.Done():
		return canceled.Err(ctx)
	case <-deadline:
		return fmt.Errorf("%w: all %d stores that may be open for namespaces are in use", remote.ErrBusy, s.opts.MaxOpen)
	}
}

// mustWait reports whether new operations on an open store must wait, so that it can be closed to
// make room for another store. mu must be held.
func (s *Set) mustWait(e *entry) bool {
	first := s.queue.Front()
	return first != nil && first.Value != e.name && e.longUses == 0 && time.Since(e.openedAt) > minOpenTime
}

// pickVictim returns an idle store to close so that another store can be opened, or nil if no store
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
	e.leases--
	if e.leases > 0 {
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
