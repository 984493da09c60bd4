package remote

import (
	"container/list"
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

// queue is who waits for memory.
type queue struct {
	waiting int
	arrived uint64              // counts those who came
	shares  map[*share]struct{} // that wait
	elder   *account            // of those that grow, nil if none does
	grown   int64               // what the others that grow hold
	granted time.Time           // when memory was given last
	ticking bool                // a timer is set

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

// account is what a connection holds.
type account struct {
	ledger   *ledger
	share    *share
	patience time.Duration
	evict    func()       // ends the connection
	received func() int64 // bytes that have arrived, guarded by the ledger's mu
	sent     atomic.Int64 // bytes that the peer has taken
	working  atomic.Int32 // changes being applied, which cannot be hurried

	asking chan struct{} // held by the answer that waits for its memory: one at a time in the queue

	// Guarded by the ledger's mu.
	held    int64
	since   time.Time // when it got some last
	moved   int64     // bytes that had moved by then
	growing bool
	waiting int
	growth  *waiter // that waits to grow, nil if none does
	evicted bool
}

const (
	relieveAfter = 200 * time.Millisecond // of waiting, others make room
	relieveEvery = 100 * time.Millisecond
	relieveMost  = 16 // who make room at a time
	// slowBytes is the rate in bytes a second below which a connection that holds
	// memory makes room for another of the same peer, after slowAfter.
	slowBytes = 64 << 10
	slowAfter = time.Second
)

// reserve is what only those get who finish.
func (l *ledger) reserve() int64 { return l.limit[memory] / 8 }

func (a *account) progress() int64 { return a.received() + a.sent.Load() }

// open makes the account of a connection.
func (l *ledger) open(s *share, patience time.Duration, evict func()) *account {
	a := &account{ledger: l, share: s, patience: patience, evict: evict, received: func() int64 { return 0 }, asking: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.accounts[a] = struct{}{}
	return a
}

// receive tells how much has arrived from now on.
func (a *account) receive(bytes func() int64) {
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	a.received = bytes
}

// close ends an account, which has given everything back.
func (a *account) close() {
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	delete(a.ledger.queue.accounts, a)
}

// take takes memory, and waits for it: in the order of arrival, but the peer that
// has least goes first. It waits as long as others get theirs, and no longer than
// patience when nobody does.
func (a *account) take(ctx context.Context, bytes int64, d demand) error {
	l := a.ledger
	most := l.limit[memory]
	if d != finish {
		most -= l.reserve()
	}
	if bytes > most {
		return fmt.Errorf("%w: it takes %d bytes of the server's memory, which has %d", partd.ErrTooLarge, bytes, most)
	}
	w := &waiter{account: a, bytes: bytes, demand: d, since: time.Now(), done: make(chan struct{})}
	l.mu.Lock()
	l.enqueue(w)
	l.grant()
	if q := &l.queue; q.waiting > 0 && !q.ticking {
		q.ticking = true
		time.AfterFunc(relieveEvery, l.tick)
	}
	l.mu.Unlock()
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

// giveUp ends waiting. mu is held.
func (l *ledger) giveUp(w *waiter) {
	w.err = fmt.Errorf("%w: %d bytes more, %d of %d are in use", ErrBusy, w.bytes, l.used[memory], l.limit[memory])
	l.dequeue(w)
}

func (l *ledger) enqueue(w *waiter) {
	q, s := &l.queue, w.account.share
	q.arrived++
	w.arrival = q.arrived
	w.place = s.waiting[w.demand].PushBack(w)
	s.waits++
	q.shares[s] = struct{}{}
	q.waiting++
	w.account.waiting++
	if w.demand == growth {
		w.account.growth = w
	}
}

func (l *ledger) dequeue(w *waiter) {
	q, s := &l.queue, w.account.share
	s.waiting[w.demand].Remove(w.place)
	if s.waits--; s.waits == 0 {
		delete(q.shares, s)
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
func (l *ledger) tick() {
	var victims []*account
	l.mu.Lock()
	q := &l.queue
	for s := range q.shares {
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
	for s := range q.shares {
		if w := l.next(s); w != nil && time.Since(w.since) > relieveAfter {
			need := w.bytes
			for e, i := s.waiting[admission].Front(), 0; e != nil && i < relieveMost; e, i = e.Next(), i+1 {
				need += e.Value.(*waiter).bytes // those behind it need not wait as long
				victims = append(victims, l.relieve(w, need))
			}
			victims = append(victims, l.relieve(w, need))
		}
		if e := s.waiting[growth].Front(); e != nil && !l.mayGrow(e.Value.(*waiter)) {
			victims = append(victims, l.relieveElder(e.Value.(*waiter)))
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
func (l *ledger) grant() {
	for {
		var next *waiter
		for s := range l.queue.shares {
			if w := l.next(s); w != nil && (next == nil || l.before(w, next)) {
				next = w
			}
		}
		if next == nil || !l.fits(next) {
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
func (l *ledger) next(s *share) *waiter {
	first := func(d demand) *waiter {
		if e := s.waiting[d].Front(); e != nil {
			return e.Value.(*waiter)
		}
		return nil
	}
	if w := first(finish); w != nil {
		return w
	}
	if e := l.queue.elder; e != nil && e.share == s && e.growth != nil {
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
func (l *ledger) before(w, other *waiter) bool {
	if a, b := w.demand == finish, other.demand == finish; a != b {
		return a
	}
	if a, b := w.account.share.used[memory], other.account.share.used[memory]; a != b {
		return a < b
	}
	return w.arrival < other.arrival
}

// most is how much may be in use with what one who waits gets. A peer of which other
// connections have much leaves some for those who have less, so that they need not
// wait until it makes room. mu is held.
func (l *ledger) most(w *waiter) int64 {
	a, most := w.account, l.limit[memory]
	if w.demand != finish {
		most -= l.reserve()
	}
	if w.demand == admission && a.share.used[memory]-a.held > l.limit[memory]/8 {
		most -= l.limit[memory] / 8
	}
	return most
}

func (l *ledger) fits(w *waiter) bool { return l.used[memory]+w.bytes <= l.most(w) }

// mayGrow tells whether the elder can still come to its end: of the memory it may
// need more than half, an eighth is the reserve, an eighth each may be kept for the
// next messages and held by those that have just begun. mu is held.
func (l *ledger) mayGrow(w *waiter) bool {
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

// grow notes that an account grows. mu is held.
func (l *ledger) grow(a *account) {
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
func (l *ledger) charge(a *account, bytes int64) {
	if bytes > 0 { // what it did before it got them, as waiting, does not count
		a.since, a.moved = time.Now(), a.progress()
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
	l.addLocked(a.share, memory, bytes)
}

// force takes memory that is in use already.
func (a *account) force(bytes int64) {
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	a.ledger.charge(a, bytes)
}

func (a *account) give(bytes int64) { a.force(-bytes) }

// relieve finds who has to make room for one who waits, so that there is so much:
// of the peer that has most, the slowest. Among the connections of one peer only those make room that
// hardly move; or, where all wait for one another, the last that came. mu is held.
func (l *ledger) relieve(w *waiter, need int64) (victim *account) {
	own := w.account.share
	from := l.heaviestLocked(memory, own, w.bytes)
	coming := int64(0)
	allWait := true
	slowest := float64(slowBytes)
	if from != own {
		slowest = 1 << 62
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
		held := time.Since(a.since)
		if a.share != from || a.working.Load() > 0 || from == own && (held < slowAfter || a.waiting > 0) {
			if a.share == own && a.waiting > 0 && (last == nil || a.since.After(last.since)) {
				last = a
			}
			continue
		}
		if rate := a.rate(); rate < slowest {
			victim, slowest = a, rate
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

// relieveElder finds out whether the elder has to make room for one who waits for
// its end. mu is held.
func (l *ledger) relieveElder(w *waiter) *account {
	e := l.queue.elder
	own := w.account.share
	if e.evicted || e.waiting > 0 || e.working.Load() > 0 || time.Since(w.since) < relieveAfter {
		return nil
	}
	slow := e.rate() < slowBytes && time.Since(e.since) > slowAfter
	if !slow && (e.share == own || l.heaviestLocked(memory, own, w.bytes) != e.share) {
		return nil
	}
	e.evicted = true
	return e
}

// rate is what has moved in a second since the account got memory. mu is held.
func (a *account) rate() float64 {
	return float64(a.progress()-a.moved) / max(time.Since(a.since), time.Millisecond).Seconds()
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
	return c.account.take(c.ctx, bytes, d)
}

// Give gives them back.
func (c *conn) Give(bytes int64) { c.account.give(bytes) }

// Crowded tells whether what connections keep for their next message must be little.
func (c *conn) Crowded() bool { return c.server.ledger.crowded.Load() }

// allowance is what an answer being made holds of the budget.
type allowance struct {
	account *account
	ctx     context.Context
	held    int64
	most    int64 // taken at once, so that no answer waits with half of it
}

const (
	free      = 16 << 10 // what each answer has without asking
	firstTake = 64 << 10 // what a message has when its length is not yet believed
)

// hold makes the allowance so many bytes.
func (a *allowance) hold(bytes int64) error {
	if bytes -= free; bytes <= a.held {
		return nil
	}
	d := finish
	if a.most > 0 && a.held == 0 { // it holds up nobody yet
		d = admission
		select {
		case a.account.asking <- struct{}{}:
			defer func() { <-a.account.asking }()
		case <-a.ctx.Done():
			return a.ctx.Err()
		}
	}
	bytes = max(bytes, a.most)
	if err := a.account.take(a.ctx, bytes-a.held, d); err != nil {
		return err
	}
	a.held = bytes
	return nil
}

// force makes it so many bytes, there or not: they are in use already.
func (a *allowance) force(bytes int64) {
	if bytes -= free; bytes > a.held {
		a.account.force(bytes - a.held)
		a.held = bytes
	}
}

// trim gives back what is not in use.
func (a *allowance) trim(bytes int64) {
	if bytes = max(bytes-free, 0); bytes < a.held {
		a.account.give(a.held - bytes)
		a.held = bytes
	}
}

func (a *allowance) release() { a.trim(0) }
