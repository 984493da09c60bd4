package remote

import (
	"container/list"
	"fmt"
	"time"
)

// queue is who waits for memory.
type queue struct {
	waiting int
	arrived uint64               // counts those who came
	tenants map[*tenant]struct{} // that wait
	elder   *account             // of those that grow, nil if none does
	grown   int64                // what the others that grow hold
	granted time.Time            // when memory was given last
	ticking bool                 // a timer is set

	accounts map[*account]struct{}
	reap     func() // closes readers that nobody reads
}

type waiter struct {
	account *account
	arrival uint64
	place   *list.Element // among those of its peer with the same demand
	bytes   int64
	demand  demand
	since   time.Time
	done    chan struct{} // closed when it has them, or will not get them
	err     error
}

// giveUp ends waiting. mu is held.
func (l *quotas) giveUp(w *waiter) {
	w.err = fmt.Errorf("%w: %d bytes more, %d of %d are in use", ErrBusy, w.bytes, l.used[memory], l.limit[memory])
	l.dequeue(w)
}

func (l *quotas) enqueue(w *waiter) {
	q, s := &l.queue, w.account.tenant
	q.arrived++
	w.arrival = q.arrived
	w.place = s.waiting[w.demand].PushBack(w)
	s.waits++
	q.tenants[s] = struct{}{}
	q.waiting++
	w.account.waiting++
	if w.demand == growth {
		w.account.growth = w
	}
}

func (l *quotas) dequeue(w *waiter) {
	q, s := &l.queue, w.account.tenant
	s.waiting[w.demand].Remove(w.place)
	if s.waits--; s.waits == 0 {
		delete(q.tenants, s)
	}
	q.waiting--
	w.account.waiting--
	if w.demand == growth {
		w.account.growth = nil
	}
	close(w.done)
}

// tick looks after those who wait: it ends waiting that is in vain, and lets
// others make room. Of each peer it looks at the one whose turn is next.
func (l *quotas) tick() {
	var victims []*account
	l.mu.Lock()
	q := &l.queue
	for a := range q.accounts {
		// Whether enough has moved: what did long ago says nothing, as the system may
		// have taken some MiB for a peer that takes nothing.
		a.still++
		if p := a.progress(); p-a.moved >= slowBytes {
			a.moved, a.still = p, 0
		}
	}
	for s := range q.tenants {
		for d := range demands {
			for e := s.waiting[d].Front(); e != nil; {
				w := e.Value.(*waiter)
				e = e.Next()
				if now := time.Now(); now.Sub(w.since) <= w.account.patience || now.Sub(q.granted) <= w.account.patience {
					break // those behind it came later
				}
				l.giveUp(w)
			}
		}
	}
	l.grant()
	waiting := q.waiting > 0
	for s := range q.tenants {
		if w := l.next(s); w != nil && time.Since(w.since) > relieveAfter {
			need := w.bytes
			for e, i := s.waiting[admission].Front(), 0; e != nil && i < relieveMost; e, i = e.Next(), i+1 {
				need += e.Value.(*waiter).bytes // those behind it need not wait as long
				victims = append(victims, l.pickVictim(w, need))
			}
			victims = append(victims, l.pickVictim(w, need))
		}
		if e := s.waiting[growth].Front(); e != nil && !l.mayGrow(e.Value.(*waiter)) {
			victims = append(victims, l.evictElder(e.Value.(*waiter)))
		}
	}
	if q.ticking = waiting; waiting {
		time.AfterFunc(relieveEvery, l.tick)
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

// grant gives memory to those who wait, as far as there is some. mu is held.
func (l *quotas) grant() {
	for {
		var next *waiter
		for s := range l.queue.tenants {
			if w := l.next(s); w != nil && (next == nil || l.before(w, next)) {
				next = w
			}
		}
		if next == nil || l.used[memory]+next.bytes > l.most(next) {
			return
		}
		l.queue.granted = time.Now()
		l.dequeue(next)
		if next.demand == growth {
			l.grow(next.account)
		}
		l.charge(next.account, next.bytes)
	}
}

// next returns who of a peer gets memory next: to finish what is there, then the
// elder, for whose end others may be waiting, then in the order of arrival. mu is
// held.
func (l *quotas) next(s *tenant) *waiter {
	first := func(d demand) *waiter {
		if e := s.waiting[d].Front(); e != nil {
			return e.Value.(*waiter)
		}
		return nil
	}
	if w := first(finish); w != nil {
		return w
	}
	if e := l.queue.elder; e != nil && e.tenant == s && e.growth != nil {
		return e.growth
	}
	w, g := first(admission), first(growth)
	if g != nil && l.mayGrow(g) && (w == nil || g.arrival < w.arrival) {
		return g
	}
	return w
}

// before tells which peer goes before another: the one that finishes, then the one
// that has less. mu is held.
func (l *quotas) before(w, other *waiter) bool {
	if a, b := w.demand == finish, other.demand == finish; a != b {
		return a
	}
	if a, b := w.account.tenant.used[memory], other.account.tenant.used[memory]; a != b {
		return a < b
	}
	return w.arrival < other.arrival
}

// most is how much may be in use with what one who waits gets. A peer of which other
// connections have much leaves some for those who have less, so that they need not
// wait until it makes room. mu is held.
func (l *quotas) most(w *waiter) int64 {
	a, most := w.account, l.limit[memory]
	if w.demand != finish {
		most -= l.reserve()
	}
	if w.demand == admission && a.tenant.used[memory]-a.held > l.limit[memory]/8 {
		most -= l.limit[memory] / 8
	}
	return most
}

// mayGrow reports whether the elder can still come to its end: of the memory it may
// need more than half, an eighth is the reserve, an eighth each may be kept for the
// next messages and held by those that have just begun. mu is held.
func (l *quotas) mayGrow(w *waiter) bool {
	q := &l.queue
	if q.elder == nil || q.elder == w.account {
		return true
	}
	grown := q.grown + w.bytes
	if !w.account.growing {
		grown += w.account.held
	}
	return grown <= l.limit[memory]/16
}

// pickVictim finds who has to make room for one who waits, so that there is so much:
// of the peer that has most, the slowest. Among the connections of one peer only those make room that
// hardly move; or, where all wait for one another, the last that came. mu is held.
func (l *quotas) pickVictim(w *waiter, need int64) (victim *account) {
	own := w.account.tenant
	from := l.heaviestLocked(memory, own, w.bytes)
	coming := int64(0)
	allWait := true
	still := slowLooks
	if from != own {
		still = -1
	}
	var last *account
	for a := range l.queue.accounts {
		if a.evicted {
			coming += a.held
			continue
		}
		if a.held == 0 || a == w.account {
			continue
		}
		allWait = allWait && a.waiting > 0
		if a.tenant != from || a.working.Load() > 0 || from == own && a.waiting > 0 {
			if a.tenant == own && a.waiting > 0 && (last == nil || a.still < last.still) {
				last = a
			}
			continue
		}
		if a.still > still {
			victim, still = a, a.still
		}
	}
	if victim == nil && allWait {
		victim = last
	}
	if victim == nil || l.used[memory]+need-coming <= min(l.most(w), l.limit[memory]-l.reserve()) {
		return nil
	}
	victim.evicted = true
	return victim
}

// evictElder finds out whether the elder has to make room for one who waits for
// its end. mu is held.
func (l *quotas) evictElder(w *waiter) *account {
	e := l.queue.elder
	own := w.account.tenant
	if e.evicted || e.waiting > 0 || e.working.Load() > 0 || time.Since(w.since) < relieveAfter {
		return nil
	}
	if slow := e.still > slowLooks; !slow && (e.tenant == own || l.heaviestLocked(memory, own, w.bytes) != e.tenant) {
		return nil
	}
	e.evicted = true
	return e
}
