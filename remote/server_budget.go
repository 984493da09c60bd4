package remote

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
)

// demand is the purpose of a request for memory. It decides how much must remain free.
type demand int

const (
	// admission is for a whole message, which needs no more memory to arrive.
	admission demand = iota
	// growth is for a message that announces the length of each frame separately. Such a
	// message holds memory while it waits for more. So the memory of these messages is
	// limited to let one of them, the elder, finish.
	growth
	// finish is for an answer to a message that has arrived, or for a part of an upload.
	// Both end by returning memory. A reserve is kept for them.
	finish
	demands
)

// account counts the memory that a connection holds.
type account struct {
	quotas   *quotas
	tenant   *tenant
	patience time.Duration
	evict    func()       // closes the connection
	received func() int64 // returns the bytes that have arrived; quotas.mu guards the field
	sent     atomic.Int64 // bytes that the peer has received
	working  atomic.Int32 // running changes, which cannot be interrupted

	asking semaphore // held by the answer that waits for memory: one at a time

	// The fields below are guarded by quotas.mu.
	held      int64
	message   int64 // the part of held for messages and uploads, kept until their requests are answered
	moved     int64 // progress when it last advanced by slowBytes, or when the account last got memory
	idleTicks int   // number of ticks since then
	growing   bool
	waiting   int
	growth    *waiter // its waiting request to grow, or nil
	evicted   bool
}

const (
	relieveAfter = 200 * time.Millisecond // wait after which others are evicted
	relieveEvery = 100 * time.Millisecond
	relieveMost  = 16 // limit of the evictions of a tick for one tenant
	// A connection that holds memory must move slowBytes within twice slowAfter, or it
	// may be evicted for another one of the same tenant.
	slowBytes = 64 << 10
	slowAfter = time.Second
	slowLooks = int(2 * slowAfter / relieveEvery) // counted in ticks, which come later on a busy machine
)

// reserve returns the bytes kept for requests to finish.
func (l *quotas) reserve() int64 { return l.limit[memory] / 8 }

func (a *account) progress() int64 { return a.received() + a.sent.Load() }

func (l *quotas) open(s *tenant, patience time.Duration, evict func()) *account {
	a := &account{quotas: l, tenant: s, patience: patience, evict: evict, received: func() int64 { return 0 }, asking: make(semaphore, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.accounts[a] = struct{}{}
	return a
}

// close removes an account. It must hold no memory.
func (a *account) close() {
	a.quotas.mu.Lock()
	defer a.quotas.mu.Unlock()
	delete(a.quotas.queue.accounts, a)
}

// take waits for memory. Requests are granted in the order of arrival, but first to the
// tenant with the least memory. A request fails if no request at all is granted for the
// time of patience.
func (a *account) take(ctx context.Context, bytes int64, d demand) error {
	l := a.quotas
	maximum := l.limit[memory]
	if d != finish {
		maximum -= l.reserve()
	}
	w := &waiter{account: a, bytes: bytes, demand: d, since: time.Now(), done: make(chan struct{})}
	l.mu.Lock()
	if all := a.message + bytes; all > maximum { // waiting would not help
		l.mu.Unlock()
		return fmt.Errorf("%w: it needs %d bytes of the server's memory of %d: divide it", partd.ErrTooLarge, all, maximum)
	}
	l.enqueue(w)
	l.grant()
	if q := &l.queue; q.waiting > 0 && !q.ticking {
		q.ticking = true
		for a := range q.accounts {
			a.moved, a.idleTicks = a.progress(), 0
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
	case <-w.done: // granted just now
		return w.err
	default:
		l.giveUp(w)
		l.grant() // the request may have blocked others
		return w.err
	}
}

// grow records that an account grows. mu must be held.
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

// charge changes the bytes that an account holds. mu must be held.
func (l *quotas) charge(a *account, bytes int64) {
	if bytes > 0 { // progress before the grant does not count
		a.moved, a.idleTicks = a.progress(), 0
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

// force takes memory without a limit, for bytes that are in use already.
func (a *account) force(bytes int64) {
	a.quotas.mu.Lock()
	defer a.quotas.mu.Unlock()
	a.quotas.charge(a, bytes)
}

func (a *account) give(bytes int64) { a.force(-bytes) }

// wait adds n to the reasons to wait. While there is one, a lack of progress is not the
// peer's fault.
func (a *account) wait(n int) {
	a.quotas.mu.Lock()
	defer a.quotas.mu.Unlock()
	a.waiting += n
}

// takeMessage takes memory for a message or an upload. The memory is held until the
// request is answered, so whatever the request needs later must fit next to it.
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

// Take takes memory for arriving data.
func (c *conn) Take(bytes int64, whole bool) error {
	d := growth
	if whole || bytes <= firstTake {
		d = admission
	}
	if c.upload.charged > 0 {
		d = finish
	}
	return c.account.takeMessage(c.ctx, bytes, d)
}

func (c *conn) Release(bytes int64) { c.account.giveMessage(bytes) }

// Crowded reports whether connections should keep little memory for their next message.
func (c *conn) Crowded() bool { return c.server.quotas.isCrowded() }
