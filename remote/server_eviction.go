package remote

import (
	"container/list"
	"sync/atomic"
	"time"
)

// This file decides how tenants share resources: which requests wait, and which connections, readers
// and sessions are evicted. All connections of a peer are one tenant.
//
//   - While a resource lasts, each tenant gets what it requests.
//   - If a resource is exhausted, the heaviest tenant gives way: the one that holds the most of it. A
//     tenant that would exceed its fair share, or become the heaviest, gives way to itself (heaviest).
//   - For another tenant's request, the victim is evicted at once. For a request of the same tenant,
//     it must have been idle for a while. While the server works on it, it is not idle.
//   - If nothing can be evicted, the request waits (memory, readers) or fails (connections, sessions,
//     pops).
//
// Callers: server_admit.go for connections, server_handles.go for readers and listings,
// server_memory_queue.go for memory, server_session_quota.go for sessions, server_retainedpops.go for
// results of Pop.

// heaviest returns the tenant that must give up some of r so that t can get n more: the tenant that
// holds the most. It returns t itself if n more would exceed t's fair share or make t the heaviest.
// mu must be held.
func (q *quotas) heaviest(r resource, t *tenant, n int64) *tenant {
	heaviest, holders := t, int64(1)
	for _, o := range q.tenants {
		if o != t && o.used[r] > 0 {
			holders++
		}
		if o.used[r] > heaviest.used[r] {
			heaviest = o
		}
	}
	if t.used[r]+n > max(q.limit[r]/holders, 1) || t.used[r]+n > heaviest.used[r] {
		return t
	}
	return heaviest
}

// findHeaviest calls heaviest, for callers that do not hold mu.
func (q *quotas) findHeaviest(r resource, t *tenant, n int64) *tenant {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.heaviest(r, t, n)
}

// slowAfter is how long a reader, or a connection without requests, must be idle before it is evicted
// for the same tenant.
const slowAfter = time.Second

// Connections: the tenant with the most connections loses one. Connections that never sent a request
// go first, then the one that has been idle longest. If too many connections are in their handshake,
// the oldest handshake of the tenant with the most gives way (oldestHandshake in server_admit.go).

// connUse records what a connection is used for.
type connUse struct {
	tenant       *tenant      // the peer, which may have other connections
	account      *account     // counts the memory that the connection holds
	lastUsed     atomic.Int64 // time of the last message, in nanoseconds
	hasRequested atomic.Bool  // a request other than hello has arrived
	reads        semaphore    // limits the requests that are answered in other goroutines
	sessionCount atomic.Int64 // number of sessions open on the connection
}

// givesWay reports whether a connection may be evicted for another one of the same tenant.
func (u *connUse) givesWay(handshakeTimeout time.Duration) bool {
	minIdle := min(slowAfter, handshakeTimeout)
	if u.hasRequested.Load() {
		minIdle = 10 * handshakeTimeout
	}
	idle := time.Duration(time.Now().UnixNano() - u.lastUsed.Load())
	return idle >= minIdle && u.account.pins.Load() == 0 && len(u.reads) == 0
}

// isLessUseful reports whether u should be evicted before v, a connection of the same tenant.
func (u *connUse) isLessUseful(v *connUse) bool {
	if a, b := u.hasRequested.Load(), v.hasRequested.Load(); a != b {
		return !a
	}
	return u.lastUsed.Load() < v.lastUsed.Load()
}

// Readers and listings: the tenant with the most loses its least recently used one. While memory is
// short, reap closes idle readers of all tenants. While too many stores are open, endIdle closes idle
// readers outside the default namespace. Both functions are in server_handles.go.

// readerToClose returns the tenant that must lose a reader so that t can open one, and how long that
// reader must have been idle: slowAfter for t's own readers and, unless t has waited long, for
// another tenant's only reader.
func (q *quotas) readerToClose(full resource, t *tenant, waitedLong bool) (owner *tenant, minIdle time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	owner = q.heaviest(full, t, 1)
	if owner == t || owner.used[openHandles] == 1 && !waitedLong {
		return owner, slowAfter
	}
	return owner, 0
}

// Sessions: the tenant with the most sessions loses one that was never used or is not open. If it has
// no such session, reserve closes its connection with the most sessions, unless the new session is
// for the same tenant.

// oldest returns the session to forget first, or nil. A session that is open on a connection qualifies
// only if it has been unused for slowAfter.
func (f *forgettable) oldest() *knownSession {
	for _, l := range []*list.List{&f.unused, &f.openUnused, &f.closedUsed} {
		first := l.Front()
		if first == nil {
			continue
		}
		session := first.Value.(*knownSession)
		if l != &f.openUnused || time.Since(session.begun) >= slowAfter {
			return session
		}
	}
	return nil
}

// Results of Pop are never evicted, because a result exists nowhere else.

// popsMustWait reports whether results must be confirmed before a session may pop more. The more a
// tenant retains, the lower is its limit on the retained bytes of all tenants. The limit is higher for
// a tenant or a session that retains nothing, so that others cannot block it.
func (q *quotas) popsMustWait(owner *tenant, sessionBytes int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	limit := q.limit[popBytes]
	switch {
	case owner.used[popBytes] == 0:
		limit *= 2
	case sessionBytes == 0:
		limit += limit / 2
	default:
		limit -= owner.used[popBytes]
	}
	return q.used[popBytes] > limit
}

// Memory: server_memory_queue.go queues the waiting requests. mu must be held when calling the functions
// below.

// A connection that holds memory must transfer slowBytes within slowTimeout. Otherwise it may be
// evicted in favor of another connection of the same tenant.
const (
	slowBytes    = 64 << 10
	slowTimeout  = 2 * time.Second
	maxIdleTicks = int(slowTimeout / tickInterval) // in ticks rather than time, because a busy machine delays ticks
)

// next returns the tenant's request to grant next, or nil. Requests whose demand is finish come
// first, then the request of the elder (see growth), and then the oldest request. The elder precedes
// older requests because other accounts may be waiting for its message to finish.
func (b *budget) next(t *tenant) *waiter {
	firstOf := func(d demand) *waiter {
		if e := t.waiting[d].Front(); e != nil {
			return e.Value.(*waiter)
		}
		return nil
	}
	if w := firstOf(finish); w != nil {
		return w
	}
	if e := b.elder; e != nil && e.tenant == t && e.growth != nil {
		return e.growth
	}
	w, g := firstOf(admission), firstOf(growth)
	if g != nil && b.mayGrow(g) && (w == nil || g.arrival < w.arrival) {
		return g
	}
	return w
}

// isGrantedBefore reports whether w is granted before other, a request from another tenant. Requests
// with the demand finish come first, then requests of the tenant that holds less memory.
func (b *budget) isGrantedBefore(w, other *waiter) bool {
	if x, y := w.demand == finish, other.demand == finish; x != y {
		return x
	}
	if x, y := w.account.tenant.used[memory], other.account.tenant.used[memory]; x != y {
		return x < y
	}
	return w.arrival < other.arrival
}

// reservedBytes returns the size of the memory set aside for requests whose demand is finish.
func (b *budget) reservedBytes() int64 { return b.limit[memory] / 8 }

// ceiling returns the total usage up to which w may be granted. If other connections of w's tenant
// hold much memory, the ceiling is lower, so that some memory remains free for other tenants.
func (b *budget) ceiling(w *waiter) int64 {
	a, limit := w.account, b.limit[memory]
	if w.demand != finish {
		limit -= b.reservedBytes()
	}
	if w.demand == admission && a.tenant.used[memory]-a.heldBytes > b.limit[memory]/8 {
		limit -= b.limit[memory] / 8
	}
	return limit
}

// mayGrow reports whether w, a request with the demand growth, leaves enough memory for the elder's
// message to arrive completely. That message may need nine sixteenths of the memory (see
// messageLimit). Three eighths are unavailable to it: the reserve, an eighth for the connections' next
// messages, and an eighth for messages that have just begun. So all other growing accounts share a
// sixteenth.
func (b *budget) mayGrow(w *waiter) bool {
	if b.elder == nil || b.elder == w.account {
		return true
	}
	grownBytes := b.grownBytes + w.bytes
	if !w.account.growing {
		grownBytes += w.account.heldBytes
	}
	return grownBytes <= b.limit[memory]/16
}

// pickVictim returns the account to evict to free need bytes for w, or nil. Among the accounts of
// the heaviest tenant, it picks the one that has made no progress for the longest time. The account
// must have been idle for more than maxIdleTicks if that tenant is w's own, or if the tenant's only
// reader holds most of its memory and w has not waited for long. pickVictim spares accounts that the
// server is working for, and w's own tenant if all its idle accounts together hold too little for w.
// If all accounts wait, pickVictim picks the account of w's tenant with the most recent progress.
func (b *budget) pickVictim(w *waiter, need int64) (victim *account) {
	requester := w.account.tenant
	heaviest := b.heaviest(memory, requester, w.bytes)
	pendingFree, idleBytes := int64(0), int64(0)
	allWait := true
	maxIdle := maxIdleTicks
	isReader := heaviest.used[openHandles] == 1 && heaviest.used[handleBytes] > heaviest.used[memory]/2
	if heaviest != requester && (!isReader || time.Since(w.since) > w.account.maxWait/2) {
		maxIdle = -1
	}
	var latest *account
	for a := range b.accounts {
		if a.evicted {
			pendingFree += a.heldBytes
			continue
		}
		if a.heldBytes == 0 || a == w.account {
			continue
		}
		allWait = allWait && a.waiting > 0
		isBusy := a.pins.Load() > 0 || a.preparing.Load() > 0 && a.waiting == 0
		if a.tenant != heaviest || isBusy || heaviest == requester && a.waiting > 0 {
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
	free := min(b.ceiling(w), b.limit[memory]-b.reservedBytes()) - b.used[memory] + pendingFree
	switch {
	case victim == nil && allWait:
		victim = latest
	case heaviest == requester && w.bytes > free+idleBytes:
		return nil
	}
	if need <= free {
		return nil
	}
	return victim
}

// pickElder returns the elder if it must be evicted so that w can grow. Otherwise it returns nil.
func (b *budget) pickElder(w *waiter) *account {
	e, requester := b.elder, w.account.tenant
	if e.evicted || e.waiting > 0 || e.pins.Load() > 0 || time.Since(w.since) < evictAfter {
		return nil
	}
	isSlow := e.idleTicks > maxIdleTicks
	if !isSlow && (e.tenant == requester || b.heaviest(memory, requester, w.bytes) != e.tenant) {
		return nil
	}
	return e
}
