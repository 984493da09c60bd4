package remote

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
)

// demand is the purpose of a request for memory. It determines how much must remain free.
type demand int

const (
	// admission is for a message that needs no more memory afterwards to arrive completely.
	admission demand = iota
	// growth is for a message whose frames each announce their own length. Such a message holds
	// memory while it waits for the memory of its next frame. The server limits the total memory of
	// such messages, so that at least one of them can finish: the elder's (see markGrowing).
	growth
	// finish is for answering a message. Answers free memory when they complete, so the server keeps a
	// reserve for them.
	finish
	demands
)

// account counts the memory that a connection holds.
type account struct {
	quotas   *quotas
	tenant   *tenant
	patience time.Duration // how long a request for memory may wait
	evict    func()        // closes the connection
	received func() int64  // returns the bytes that have arrived; quotas.mu guards the field
	sent     atomic.Int64  // bytes that the peer has received
	working  atomic.Int32  // number of running changes, which cannot be interrupted
	filling  atomic.Int32  // number of answers that the server is making, which the peer cannot hasten

	waitPermit semaphore // held by the one answer that may wait for memory

	// The fields below are guarded by quotas.mu.
	heldBytes    int64
	message      int64   // the part of heldBytes for messages whose requests are not yet answered
	lastProgress int64   // value of progress() when it last grew by slowBytes, or when the account last got memory
	idleTicks    int     // number of ticks since lastProgress was set
	growing      bool    // holds memory for a message with more frames to come (see growth)
	waiting      int     // number of waiting requests for memory, plus the sum passed to addWaits
	growth       *waiter // the waiting request with the demand growth, or nil
	evicted      bool
}

const (
	evictAfter   = 200 * time.Millisecond // how long a request waits before connections are evicted for it
	tickInterval = 100 * time.Millisecond // interval of ticks while requests wait
	maxLookahead = 16                     // number of requests after a tenant's first one for which a tick may also evict connections
	// A connection that holds memory must transfer slowBytes within twice slowAfter. Otherwise
	// it may be evicted in favor of another connection of the same tenant.
	slowBytes    = 64 << 10
	slowAfter    = time.Second
	maxIdleTicks = int(2 * slowAfter / tickInterval) // counted in ticks, because a busy machine delays ticks
)

// reserve returns the bytes that only requests with the demand finish may use.
func (l *quotas) reserve() int64 { return l.limit[memory] / 8 }

func (a *account) progress() int64 { return a.received() + a.sent.Load() }

func (l *quotas) open(s *tenant, patience time.Duration, evict func()) *account {
	a := &account{quotas: l, tenant: s, patience: patience, evict: evict, received: func() int64 { return 0 }, waitPermit: make(semaphore, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.accounts[a] = struct{}{}
	return a
}

// close removes an account, which must hold no memory.
func (a *account) close() {
	a.quotas.mu.Lock()
	defer a.quotas.mu.Unlock()
	delete(a.quotas.queue.accounts, a)
}

// take reserves bytes of memory for the account, and waits until they are available. The tenant
// with the least memory is served first, and each tenant's requests are granted in order of arrival.
// A request fails if it has waited longer than the account's patience (its time limit) and the
// server has granted no request of any account during that time.
func (a *account) take(ctx context.Context, bytes int64, d demand) error {
	l := a.quotas
	maximum := l.limit[memory]
	if d != finish {
		maximum -= l.reserve()
	}
	w := &waiter{account: a, bytes: bytes, demand: d, since: time.Now(), done: make(chan struct{})}
	l.mu.Lock()
	if total := a.message + bytes; total > maximum { // waiting would not help
		l.mu.Unlock()
		return fmt.Errorf("%w: the request needs %d bytes, and the server's memory allows %d: split the request", partd.ErrTooLarge, total, maximum)
	}
	l.enqueue(w)
	l.grant()
	if q := &l.queue; q.waiting > 0 && !q.isTicking {
		q.isTicking = true
		for a := range q.accounts {
			a.lastProgress, a.idleTicks = a.progress(), 0
		}
		time.AfterFunc(tickInterval, l.tick)
	}
	l.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	default:
	}
	defer func() {
		l.waitCount.Add(1)
		l.waitNanos.Add(int64(time.Since(w.since)))
	}()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-w.done: // granted while the lock was not held
		return w.err
	default:
		l.giveUp(w)
		l.grant() // other requests may have waited for this one
		return w.err
	}
}

// markGrowing records that an account's message is growing. If there is no elder, the account
// becomes the elder, whose message may always grow. mu must be held.
func (l *quotas) markGrowing(a *account) {
	switch {
	case l.queue.elder == nil:
		l.queue.elder = a
		if a.growing {
			l.queue.grownBytes -= a.heldBytes
		}
	case !a.growing:
		l.queue.grownBytes += a.heldBytes
	}
	a.growing = true
}

// charge adds bytes, which may be negative, to the memory that an account holds. mu must be held.
func (l *quotas) charge(a *account, bytes int64) {
	if bytes > 0 { // the peer's idle time starts now
		a.lastProgress, a.idleTicks = a.progress(), 0
	}
	a.heldBytes += bytes
	if a.growing && l.queue.elder != a {
		l.queue.grownBytes += bytes
	}
	if a.growing && bytes < 0 && a.heldBytes <= keepBuffer+uncharged {
		a.growing = false
		if l.queue.elder == a {
			l.queue.elder = nil
		} else {
			l.queue.grownBytes -= a.heldBytes
		}
	}
	l.addLocked(a.tenant, memory, bytes)
}

// force charges bytes of memory that is already allocated, even beyond the limit.
func (a *account) force(bytes int64) {
	a.quotas.mu.Lock()
	defer a.quotas.mu.Unlock()
	a.quotas.charge(a, bytes)
}

func (a *account) give(bytes int64) { a.force(-bytes) }

// addWaits adds n, which may be negative, to the number of reasons why the account waits. While there
// is any such reason, a lack of progress is not the peer's fault.
func (a *account) addWaits(n int) {
	a.quotas.mu.Lock()
	defer a.quotas.mu.Unlock()
	a.waiting += n
}

// takeMessage takes memory for a message, which is held until the request is answered.
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

// Take takes memory for arriving data. If whole is true, the message needs no further memory.
func (c *conn) Take(bytes int64, whole bool) error {
	d := growth
	if whole || bytes <= maxSmallTake {
		d = admission
	}
	return c.account.takeMessage(c.ctx, bytes, d)
}

func (c *conn) Release(bytes int64) { c.account.giveMessage(bytes) }

// Crowded reports whether memory is so scarce that connections should keep only small buffers.
func (c *conn) Crowded() bool { return c.server.quotas.isCrowded() }
