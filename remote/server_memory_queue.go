package remote

import (
	"container/list"
	"fmt"
	"time"
)

// queue holds requests waiting for memory.
type queue struct {
	waiting    int
	arrivals   uint64               // number of requests so far
	tenants    map[*tenant]struct{} // tenants with waiting requests
	elder      *account             // the one growing account that may always grow further, or nil
	grownBytes int64                // bytes held by the other growing accounts
	lastGrant  time.Time
	isTicking  bool // a timer will call tick

	accounts map[*account]struct{}
	reap     func() // closes the least recently used reader
}

type waiter struct {
	account  *account
	arrival  uint64
	position *list.Element // position in the tenant's list for the demand
	bytes    int64
	demand   demand
	since    time.Time
	done     chan struct{} // closed when the request is granted or fails
	err      error
}

// giveUp removes a waiting request, which then fails with ErrBusy. mu must be held.
func (l *quotas) giveUp(w *waiter) {
	w.err = fmt.Errorf("%w: the request needs %d more bytes of memory, and %d of %d bytes are in use", ErrBusy, w.bytes, l.used[memory], l.limit[memory])
	l.dequeue(w)
}

func (l *quotas) enqueue(w *waiter) {
	q, s := &l.queue, w.account.tenant
	q.arrivals++
	w.arrival = q.arrivals
	w.position = s.waiting[w.demand].PushBack(w)
	s.waiterCount++
	q.tenants[s] = struct{}{}
	q.waiting++
	w.account.waiting++
	if w.demand == growth {
		w.account.growth = w
	}
}

func (l *quotas) dequeue(w *waiter) {
	q, s := &l.queue, w.account.tenant
	s.waiting[w.demand].Remove(w.position)
	if s.waiterCount--; s.waiterCount == 0 {
		delete(q.tenants, s)
	}
	q.waiting--
	w.account.waiting--
	if w.demand == growth {
		w.account.growth = nil
	}
	close(w.done)
}

// tick runs periodically while requests wait. It fails requests that have waited too long, grants
// requests that fit, and evicts accounts to make room for each tenant's next request.
func (l *quotas) tick() {
	var victims []*account
	l.mu.Lock()
	q := &l.queue
	for a := range q.accounts {
		// Ignore progress of less than slowBytes: the data may only be in the system's
		// socket buffers, although the peer reads nothing.
		a.idleTicks++
		if p := a.progress(); p-a.lastProgress >= slowBytes {
			a.lastProgress, a.idleTicks = p, 0
		}
	}
	for s := range q.tenants {
		for d := range demands {
			for e := s.waiting[d].Front(); e != nil; {
				w := e.Value.(*waiter)
				e = e.Next()
				if now := time.Now(); now.Sub(w.since) <= w.account.patience || now.Sub(q.lastGrant) <= w.account.patience {
					break // the other requests arrived even later
				}
				l.giveUp(w)
			}
		}
	}
	l.grant()
	waiting := q.waiting > 0
	for s := range q.tenants {
		if w := l.next(s); w != nil && time.Since(w.since) > evictAfter {
			need := w.bytes
			for e, i := s.waiting[admission].Front(), 0; e != nil && i < maxLookahead; e, i = e.Next(), i+1 {
				need += e.Value.(*waiter).bytes // also make room for the next requests
				victims = append(victims, l.pickVictim(w, need))
			}
			victims = append(victims, l.pickVictim(w, need))
		}
		if e := s.waiting[growth].Front(); e != nil && !l.mayGrow(e.Value.(*waiter)) {
			victims = append(victims, l.pickElder(e.Value.(*waiter)))
		}
	}
	if q.isTicking = waiting; waiting {
		time.AfterFunc(tickInterval, l.tick)
	}
	l.mu.Unlock()
	if waiting {
		q.reap()
	}
	for _, a := range victims {
		if a != nil {
			a.evict()
		}
	}
}

// grant grants waiting requests until one does not fit. mu must be held.
func (l *quotas) grant() {
	for {
		var next *waiter
		for s := range l.queue.tenants {
			if w := l.next(s); w != nil && (next == nil || l.isGrantedBefore(w, next)) {
				next = w
			}
		}
		if next == nil || l.used[memory]+next.bytes > l.ceiling(next) {
			return
		}
		l.queue.lastGrant = time.Now()
		l.dequeue(next)
		if next.demand == growth {
			l.markGrowing(next.account)
		}
		l.charge(next.account, next.bytes)
	}
}

// next returns the request of a tenant to grant next, or nil. Requests with the demand finish come
// first, then the elder's request, and then the oldest request. The elder precedes older requests
// because other accounts may wait for the elder. mu must be held.
func (l *quotas) next(s *tenant) *waiter {
	firstOf := func(d demand) *waiter {
		if e := s.waiting[d].Front(); e != nil {
			return e.Value.(*waiter)
		}
		return nil
	}
	if w := firstOf(finish); w != nil {
		return w
	}
	if e := l.queue.elder; e != nil && e.tenant == s && e.growth != nil {
		return e.growth
	}
	w, g := firstOf(admission), firstOf(growth)
	if g != nil && l.mayGrow(g) && (w == nil || g.arrival < w.arrival) {
		return g
	}
	return w
}

// isGrantedBefore reports whether w comes before other, a request of another tenant. Requests with
// the demand finish come first, then requests of the tenant that holds less memory. mu must be
// held.
func (l *quotas) isGrantedBefore(w, other *waiter) bool {
	if a, b := w.demand == finish, other.demand == finish; a != b {
		return a
	}
	if a, b := w.account.tenant.used[memory], other.account.tenant.used[memory]; a != b {
		return a < b
	}
	return w.arrival < other.arrival
}

// ceiling returns the total usage up to which w may be granted. If other connections of w's tenant
// hold much memory, the ceiling is lower, so that some memory remains free for other tenants. mu must
// be held.
func (l *quotas) ceiling(w *waiter) int64 {
	a, limit := w.account, l.limit[memory]
	if w.demand != finish {
		limit -= l.reserve()
	}
	if w.demand == admission && a.tenant.used[memory]-a.heldBytes > l.limit[memory]/8 {
		limit -= l.limit[memory] / 8
	}
	return limit
}

// mayGrow reports whether w, a request with the demand growth, may be granted without preventing the
// elder's message from finishing. The elder may need more than half of the memory, and cannot use
// three eighths: the reserve, an eighth for the connections' next messages, and an eighth for messages
// that have just begun. So all other growing accounts share a sixteenth. mu must be held.
func (l *quotas) mayGrow(w *waiter) bool {
	q := &l.queue
	if q.elder == nil || q.elder == w.account {
		return true
	}
	grownBytes := q.grownBytes + w.bytes
	if !w.account.growing {
		grownBytes += w.account.heldBytes
	}
	return grownBytes <= l.limit[memory]/16
}

// pickVictim returns the account to evict to free need bytes for w, or nil. Among the accounts of
// the heaviest tenant, it picks the one without progress for the longest time. The account must have
// been idle for more than maxIdleTicks if that tenant is w's own, or if its only reader holds most of
// its memory and w has not waited for long. pickVictim spares accounts whose answer the server is making, and
// accounts of w's tenant if all idle ones together hold too little for w. If all accounts wait,
// pickVictim picks the account of w's tenant with the most recent progress. mu must be held.
func (l *quotas) pickVictim(w *waiter, need int64) (victim *account) {
	requester := w.account.tenant
	heaviest := l.heaviestLocked(memory, requester, w.bytes)
	pendingFree, idleBytes := int64(0), int64(0)
	allWait := true
	maxIdle := maxIdleTicks
	isReader := heaviest.used[openHandles] == 1 && heaviest.used[handleBytes] > heaviest.used[memory]/2
	if heaviest != requester && (!isReader || time.Since(w.since) > w.account.patience/2) {
		maxIdle = -1
	}
	var latest *account
	for a := range l.queue.accounts {
		if a.evicted {
			pendingFree += a.heldBytes
			continue
		}
		if a.heldBytes == 0 || a == w.account {
			continue
		}
		allWait = allWait && a.waiting > 0
		if a.tenant != heaviest || a.working.Load() > 0 || a.filling.Load() > 0 && a.waiting == 0 || heaviest == requester && a.waiting > 0 {
			if a.tenant == requester && a.waiting > 0 && (latest == nil || a.idleTicks < latest.idleTicks) {
				latest = a
			}
			continue
		}
		if a.idleTicks > maxIdleTicks {
			idleBytes += a.heldBytes
		}
		if a.idleTicks > maxIdle {
			victim, maxIdle = a, a.idleTicks
		}
	}
	free := min(l.ceiling(w), l.limit[memory]-l.reserve()) - l.used[memory] + pendingFree
	switch {
	case victim == nil && allWait:
		victim = latest
	case heaviest == requester && w.bytes > free+idleBytes:
		return nil
	}
	if victim == nil || need <= free {
		return nil
	}
	victim.evicted = true
	return victim
}

// pickElder returns the elder if it must be evicted so that w can grow. Otherwise it returns nil. mu
// must be held.
func (l *quotas) pickElder(w *waiter) *account {
	e := l.queue.elder
	requester := w.account.tenant
	if e.evicted || e.waiting > 0 || e.working.Load() > 0 || time.Since(w.since) < evictAfter {
		return nil
	}
	if slow := e.idleTicks > maxIdleTicks; !slow && (e.tenant == requester || l.heaviestLocked(memory, requester, w.bytes) != e.tenant) {
		return nil
	}
	e.evicted = true
	return e
}
