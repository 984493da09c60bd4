package remote

import (
	"context"
	"fmt"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
)

// This file has the queue of requests for memory. A message of one frame requests all its memory at
// once (demand admission). A message of several frames makes a request for each frame while it holds
// the memory of the earlier frames (growth). An answer requests memory while the server builds it
// (finish).
//
// A request that fits is granted at once. Otherwise it waits in the list of its tenant and demand until
// memory is given back. While requests are waiting, tick runs ten times a second: it fails requests
// that have waited too long and evicts connections to make room. server_eviction.go decides which
// request is next, how much memory it may take, and which connection is evicted for it.

const (
	evictAfter       = 200 * time.Millisecond // how long a request waits before connections are evicted for it
	tickInterval     = 100 * time.Millisecond // time between ticks while requests are waiting
	maxEvictionDepth = 16                     // maximum number of a tenant's admission requests for which one tick makes room
)

// take reserves bytes of memory for the account. It waits until they are available. The tenant with
// the least memory is served first, and each tenant's requests are granted in order of arrival. A
// request fails if it has waited longer than the account's maxWait and the server has granted no
// request of any account during that time.
func (a *account) take(ctx context.Context, bytes int64, d demand) error {
	b := a.budget
	maximum := b.limit[memory]
	if d != finish {
		maximum -= b.reservedBytes()
	}
	w := &waiter{account: a, bytes: bytes, demand: d, since: time.Now(), done: make(chan struct{})}
	b.mu.Lock()
	if total := a.messageBytes + bytes; total > maximum { // waiting would not help
		b.mu.Unlock()
		return fmt.Errorf("%w: the request needs %d bytes, but the server's memory allows only %d: split the request", partd.ErrTooLarge, total, maximum)
	}
	b.enqueue(w)
	b.grant()
	b.startTicking()
	b.mu.Unlock()
	select {
	case <-w.done: // granted at once, so the statistics count no wait
		return w.err
	default:
	}
	b.wait(ctx, w)
	b.waitCount.Add(1)
	b.waitNanos.Add(int64(time.Since(w.since)))
	return w.err
}

// wait waits until a request is granted or fails. When ctx is done, the request fails.
func (b *budget) wait(ctx context.Context, w *waiter) {
	if canceled.Wait(ctx, w.done) == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.done: // granted before mu was locked
	default:
		b.giveUp(w)
		b.grant() // other requests may have been waiting for this one
	}
}

// giveUp removes a waiting request, which then fails with ErrBusy. mu must be held.
func (b *budget) giveUp(w *waiter) {
	w.err = fmt.Errorf("%w: the request needs %d more bytes of memory, and %d of %d bytes are in use", ErrBusy, w.bytes, b.used[memory], b.limit[memory])
	b.dequeue(w)
}

// enqueue adds a request to the queue. mu must be held.
func (b *budget) enqueue(w *waiter) {
	q, t := &b.queue, w.account.tenant
	q.arrivals++
	w.arrival = q.arrivals
	w.position = t.waiting[w.demand].PushBack(w)
	t.waiterCount++
	q.tenants[t] = struct{}{}
	q.waiting++
	w.account.waiting++
	if w.demand == growth {
		w.account.growth = w
	}
}

// dequeue removes a request from the queue and ends its wait. mu must be held.
func (b *budget) dequeue(w *waiter) {
	q, t := &b.queue, w.account.tenant
	t.waiting[w.demand].Remove(w.position)
	t.waiterCount--
	if t.waiterCount == 0 {
		delete(q.tenants, t)
	}
	q.waiting--
	w.account.waiting--
	if w.demand == growth {
		w.account.growth = nil
	}
	close(w.done)
}

// grant grants waiting requests until one does not fit. mu must be held.
func (b *budget) grant() {
	for {
		var next *waiter
		for t := range b.queue.tenants {
			if w := b.next(t); w != nil && (next == nil || b.isGrantedBefore(w, next)) {
				next = w
			}
		}
		if next == nil || b.used[memory]+next.bytes > b.ceiling(next) {
			return
		}
		b.queue.lastGrant = time.Now()
		b.dequeue(next)
		if next.demand == growth {
			b.markGrowing(next.account)
		}
		b.charge(next.account, next.bytes)
	}
}

// startTicking starts periodic calls to tick if requests are waiting. mu must be held.
func (b *budget) startTicking() {
	if b.queue.waiting == 0 || b.queue.isTicking {
		return
	}
	b.queue.isTicking = true
	for a := range b.accounts {
		a.restartIdleTime()
	}
	time.AfterFunc(tickInterval, b.tick)
}

// tick runs periodically while requests are waiting. It fails requests that have waited too long,
// grants requests that fit and evicts accounts to make room for each tenant's next request.
func (b *budget) tick() {
	b.mu.Lock()
	b.countIdleTime()
	b.failLate()
	b.grant()
	victims := b.pickVictims()
	waiting := b.queue.waiting > 0
	b.queue.isTicking = waiting
	if waiting {
		time.AfterFunc(tickInterval, b.tick)
	}
	b.mu.Unlock()
	if waiting {
		b.reap()
	}
	for _, a := range victims {
		a.evict()
	}
}

// countIdleTime adds a tick to the idle time of all accounts without progress. mu must be held.
func (b *budget) countIdleTime() {
	for a := range b.accounts {
		// Ignore progress of less than slowBytes: the data may only have moved to the system's
		// socket buffers while the peer reads nothing.
		a.idleTicks++
		if a.progress()-a.lastProgress >= slowBytes {
			a.restartIdleTime()
		}
	}
}

// failLate fails requests that have waited too long. mu must be held.
func (b *budget) failLate() {
	for t := range b.queue.tenants {
		for d := range numDemands {
			for e := t.waiting[d].Front(); e != nil; {
				w := e.Value.(*waiter)
				e = e.Next()
				now := time.Now()
				if now.Sub(w.since) <= w.account.maxWait || now.Sub(b.queue.lastGrant) <= w.account.maxWait {
					break // the requests after it arrived even later
				}
				b.giveUp(w)
			}
		}
	}
}

// pickVictims returns the accounts to evict now. mu must be held.
func (b *budget) pickVictims() (victims []*account) {
	add := func(a *account) {
		if a != nil {
			a.evicted = true
			victims = append(victims, a)
		}
	}
	for t := range b.queue.tenants {
		if w := b.next(t); w != nil && time.Since(w.since) > evictAfter {
			need := w.bytes
			for e, i := t.waiting[admission].Front(), 0; e != nil && i < maxEvictionDepth; e, i = e.Next(), i+1 {
				need += e.Value.(*waiter).bytes // also make room for the next requests
				add(b.pickVictim(w, need))
			}
			add(b.pickVictim(w, need))
		}
		if e := t.waiting[growth].Front(); e != nil && !b.mayGrow(e.Value.(*waiter)) {
			add(b.pickElder(e.Value.(*waiter)))
		}
	}
	return victims
}
