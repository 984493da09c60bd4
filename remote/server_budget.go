package remote

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
)

// demand is what memory is wanted for, which decides how much of it there must be.
type demand int

const (
	// admission is of a whole message: once it has its memory, it needs no more
	// to arrive.
	admission demand = iota
	// growth is of a message whose frames announce their lengths one by one. It
	// waits with memory in hand, so such messages together leave room for one
	// of them, the elder, to come to its end.
	growth
	// finish is for answering what has arrived, or for a part of an upload,
	// which ends in giving memory back. A reserve is kept for it.
	finish
	demands
)

// account is what a connection holds.
type account struct {
	quotas   *quotas
	tenant   *tenant
	patience time.Duration
	evict    func()       // ends the connection
	received func() int64 // bytes that have arrived, guarded by the quotas' mu
	sent     atomic.Int64 // bytes that the peer has taken
	working  atomic.Int32 // changes being applied, which cannot be hurried

	asking semaphore // of the answer that waits for its memory: one at a time in the queue

	// Guarded by the quotas' mu.
	held    int64
	message int64 // of that, for a message or upload: it stays until the request is answered
	moved   int64 // bytes that had moved when it was last seen to move, or got memory
	still   int   // how often it was not, since
	growing bool
	waiting int
	growth  *waiter // that waits to grow, nil if none does
	evicted bool
}

const (
	relieveAfter = 200 * time.Millisecond // of waiting, others make room
	relieveEvery = 100 * time.Millisecond
	relieveMost  = 16 // who make room at a time
	// slowBytes have to move within twice slowAfter of a connection that holds memory, or it
	// makes room for another of the same peer.
	slowBytes = 64 << 10
	slowAfter = time.Second
	slowLooks = int(2 * slowAfter / relieveEvery) // where the machine has no time, they take longer
)

// reserve is what only those get who finish.
func (l *quotas) reserve() int64 { return l.limit[memory] / 8 }

func (a *account) progress() int64 { return a.received() + a.sent.Load() }

func (l *quotas) open(s *tenant, patience time.Duration, evict func()) *account {
	a := &account{quotas: l, tenant: s, patience: patience, evict: evict, received: func() int64 { return 0 }, asking: make(semaphore, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.accounts[a] = struct{}{}
	return a
}

// close ends an account, which has given everything back.
func (a *account) close() {
	a.quotas.mu.Lock()
	defer a.quotas.mu.Unlock()
	delete(a.quotas.queue.accounts, a)
}

// take takes memory, and waits for it: in the order of arrival, but the peer that
// has least goes first. It waits as long as others get theirs, and no longer than
// patience when nobody does.
func (a *account) take(ctx context.Context, bytes int64, d demand) error {
	l := a.quotas
	most := l.limit[memory]
	if d != finish {
		most -= l.reserve()
	}
	w := &waiter{account: a, bytes: bytes, demand: d, since: time.Now(), done: make(chan struct{})}
	l.mu.Lock()
	if all := a.message + bytes; all > most { // waiting would not help
		l.mu.Unlock()
		return fmt.Errorf("%w: it needs %d bytes of the server's memory of %d: divide it", partd.ErrTooLarge, all, most)
	}
	l.enqueue(w)
	l.grant()
	if q := &l.queue; q.waiting > 0 && !q.ticking {
		q.ticking = true
		for a := range q.accounts {
			a.moved, a.still = a.progress(), 0
		}
		time.AfterFunc(relieveEvery, l.tick)
	}
	l.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	default:
	}
	defer func() {
		l.waits.Add(1)
		l.waited.Add(int64(time.Since(w.since)))
	}()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-w.done: // at this moment
		return w.err
	default:
		l.giveUp(w)
		l.grant() // it may have stood before others
		return w.err
	}
}

// grow notes that an account grows. mu is held.
func (l *quotas) grow(a *account) {
	switch {
	case l.queue.elder == nil:
		l.queue.elder = a
		if a.growing {
			l.queue.grown -= a.held
		}
	case !a.growing:
		l.queue.grown += a.held
	}
	a.growing = true
}

// charge changes what an account holds. mu is held.
func (l *quotas) charge(a *account, bytes int64) {
	if bytes > 0 { // what it did before it got them, as waiting, does not count
		a.moved, a.still = a.progress(), 0
	}
	a.held += bytes
	if a.growing && l.queue.elder != a {
		l.queue.grown += bytes
	}
	if a.growing && bytes < 0 && a.held <= keepBuffer+free {
		a.growing = false
		if l.queue.elder == a {
			l.queue.elder = nil
		} else {
			l.queue.grown -= a.held
		}
	}
	l.addLocked(a.tenant, memory, bytes)
}

// force takes memory that is in use already.
func (a *account) force(bytes int64) {
	a.quotas.mu.Lock()
	defer a.quotas.mu.Unlock()
	a.quotas.charge(a, bytes)
}

func (a *account) give(bytes int64) { a.force(-bytes) }

// wait notes that the peer is not to blame that nothing moves, or no longer.
func (a *account) wait(n int) {
	a.quotas.mu.Lock()
	defer a.quotas.mu.Unlock()
	a.waiting += n
}

// takeMessage is take for a message or an upload, which its request is answered with
// in hand: what that needs beside it has to fit beside it.
func (a *account) takeMessage(ctx context.Context, bytes int64, d demand) error {
	err := a.take(ctx, bytes, d)
	if err == nil {
		a.quotas.mu.Lock()
		defer a.quotas.mu.Unlock()
		a.message += bytes
	}
	return err
}

func (a *account) giveMessage(bytes int64) {
	a.quotas.mu.Lock()
	defer a.quotas.mu.Unlock()
	a.message -= bytes
	a.quotas.charge(a, -bytes)
}

// Take takes bytes for what arrives.
func (c *conn) Take(bytes int64, whole bool) error {
	d := growth
	if whole || bytes <= firstTake {
		d = admission
	}
	if c.upload.held > 0 {
		d = finish
	}
	return c.account.takeMessage(c.ctx, bytes, d)
}

func (c *conn) Give(bytes int64) { c.account.giveMessage(bytes) }

// Crowded reports whether what connections keep for their next message must be little.
func (c *conn) Crowded() bool { return c.server.quotas.crowded() }
