package serving

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

// AcquireQuery waits until ctx's call may run a query, which takes one of the server's query slots. The caller
// must call release after the last row has been sent. If ctx's call already holds a slot, it takes no other one.
func AcquireQuery(ctx context.Context) (release func(), err error) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return nil, kinds.Internal.Errorf("a query was started outside of a call: this is a fault in the server")
	}
	return c.queries.acquireOnce(ctx, c, &c.holdsQuerySlot)
}

// attachTo returns a copy of ctx that contains the call. While the call's host and user have other running calls, its
// jobs in worker processes give way to those of other callers.
func (c *call) attachTo(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, callKey{}, c)
	return worker.WithCaller(ctx, c.host+" "+c.user, func() bool { return c.queries.hasOtherCalls(c) || c.puts.hasOtherCalls(c) })
}

// AcquirePut is like AcquireQuery, but for calls that write rows.
func AcquirePut(ctx context.Context) (release func(), err error) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return nil, kinds.Internal.Errorf("a put was started outside of a call: this is a fault in the server")
	}
	return c.puts.acquireOnce(ctx, c, &c.holdsPutSlot)
}

const (
	queryYieldTime  = 500 * time.Millisecond // Limiter.yieldTime for queries
	querySettleTime = 5 * time.Second        // Limiter.SettleTime for queries
)

// Limiter limits concurrent calls of one kind. Each running call holds a slot. A connection may use a quarter of the
// slots, and a host three quarters. An eighth of the slots is reserved for hosts and users without a running call. A
// free slot goes to the host and user with the fewest slots, then to the connection with the fewest slots, and then to
// the call that has waited longest. If a call waits too long, the limiter cancels a call of a host or user that has
// more slots. If the waiting call's host or connection is at its limit, only another user's call there is canceled.
type Limiter struct {
	name                    string
	slots, PerHost, perConn int
	Spare                   int // slots reserved for hosts and users without a running call
	// how long a call waits before it fails if its connection is stuck (see isStuck)
	patience   time.Duration
	yieldTime  time.Duration // how long a call waits before another call is canceled for it
	SettleTime time.Duration // how long a call runs before it can be canceled for another call

	mu      sync.Mutex
	running map[*call]*slot
	used    map[string]int // slots in use, by host, by user and by connection
	waiting []*waiter      // bounded, because each host's calls and requests are limited; see MaxHostCalls
}

type slot struct {
	since      time.Time // when the call got the slot
	isCanceled bool      // whether the call has been canceled in favor of another one
}

type waiter struct {
	*call
	granted chan struct{} // closed when the call gets its slot
	// start of yieldTime: when the call arrived, or one second after another call was canceled for it
	since time.Time
}

func newLimiter(name string, slots int, patience, yieldTime, settleTime time.Duration) *Limiter {
	return &Limiter{
		name: name, slots: slots, PerHost: max(1, slots*3/4), perConn: max(1, slots/4), Spare: slots / 8,
		patience: patience, yieldTime: yieldTime, SettleTime: settleTime, running: map[*call]*slot{}, used: map[string]int{},
	}
}

// acquireOnce waits for a slot, unless holdsSlot says that c already has one.
func (l *Limiter) acquireOnce(ctx context.Context, c *call, holdsSlot *atomic.Bool) (release func(), err error) {
	if holdsSlot.Swap(true) {
		return func() {}, nil
	}
	releaseSlot, err := l.acquire(ctx, c)
	if err != nil {
		holdsSlot.Store(false)
		return nil, err
	}
	return sync.OnceFunc(func() { holdsSlot.Store(false); releaseSlot() }), nil
}

// acquire waits for a slot. The caller must call release to return the slot.
func (l *Limiter) acquire(ctx context.Context, c *call) (release func(), err error) {
	w := &waiter{c, make(chan struct{}), time.Now()}
	l.mu.Lock()
	l.waiting = append(l.waiting, w)
	l.grant()
	l.mu.Unlock()
	err = l.wait(ctx, w)
	if err == nil {
		return func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.addSlots(c, -1)
			l.grant()
		}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, w); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	} else {
		l.addSlots(c, -1)
		l.grant()
	}
	return nil, err
}

// wait waits until w gets a slot. In the meantime, it may cancel calls of hosts and users that have more slots.
func (l *Limiter) wait(ctx context.Context, w *waiter) error {
	tick := time.NewTicker(min(l.patience, l.yieldTime))
	defer tick.Stop()
	start := time.Now()
	for {
		select {
		case <-w.granted:
			return nil
		case <-ctx.Done():
			return Status(context.Cause(ctx))
		case <-tick.C:
		}
		l.cancelFor(w)
		if time.Since(start) >= l.patience && l.isStuck(w.conn) {
			return kinds.Busy.Errorf("this connection already has %d running %s with unread results: read or close one of them first, or use another connection", l.perConn, l.name)
		}
	}
}

// cancelFor cancels a call for w if w has waited for yieldTime, and another host or user has more slots than w's. It
// chooses the newest call of the host and user with the most slots. It skips calls that have run for less than
// SettleTime. If w's connection or host has used up its share, it also skips calls on other connections or hosts, whose
// slots w could not get. If the canceled call does not end, a later cancelFor cancels another one.
func (l *Limiter) cancelFor(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	isConnFull, isHostFull := l.used[w.conn] >= l.perConn, l.used[w.host] >= l.PerHost
	if now.Sub(w.since) < l.yieldTime || len(l.running) < l.slots-l.Spare && !isConnFull && !isHostFull {
		return
	}
	var victim *call
	maxExcess := 0
	for c, s := range l.running {
		if s.isCanceled || now.Sub(s.since) < l.SettleTime || isConnFull && c.conn != w.conn || isHostFull && c.host != w.host {
			continue
		}
		excess := max(l.excess(c.host, w.host), 0) + max(l.excess(userKey(c), userKey(w.call)), 0)
		if excess > maxExcess || excess == maxExcess && victim != nil && s.since.After(l.running[victim].since) {
			victim, maxExcess = c, excess
		}
	}
	if victim == nil {
		return
	}
	w.since = now.Add(time.Second)
	l.running[victim].isCanceled = true
	l.count(victim, -1)
	victim.cancel(errShare)
}

// hasOtherCalls reports whether a call's host and its user both have other running calls.
func (l *Limiter) hasOtherCalls(c *call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ownSlots := 0
	if l.running[c] != nil {
		ownSlots = 1
	}
	return l.used[c.host] > ownSlots && l.used[userKey(c)] > ownSlots
}

// excess compares two hosts, or two users. It returns how many more slots name would have than other if other got one
// more. If name equals other, it returns 0.
func (l *Limiter) excess(name, other string) int {
	if name == other {
		return 0
	}
	return l.used[name] - l.used[other] - 1
}

func userKey(c *call) string { return "user " + c.user }

// isStuck reports whether a connection has used up its slots, and its client is reading none of the results.
func (l *Limiter) isStuck(conn string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.running {
		since := c.sendingSince.Load()
		if c.conn == conn && (since == 0 || time.Since(time.Unix(0, since)) < l.patience/2) {
			return false
		}
	}
	return l.used[conn] >= l.perConn
}

// grant gives free slots to waiting calls. mu must be held.
func (l *Limiter) grant() {
	for len(l.running) < l.slots {
		best := -1
		for i, w := range l.waiting {
			if !l.canGrant(w.call) {
				continue
			}
			if best < 0 || l.hasPriority(w.call, l.waiting[best].call) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		w := l.waiting[best]
		l.waiting = slices.Delete(l.waiting, best, best+1)
		l.addSlots(w.call, 1)
		close(w.granted)
	}
}

func (l *Limiter) canGrant(c *call) bool {
	if l.used[c.host] >= l.PerHost || l.used[c.conn] >= l.perConn {
		return false
	}
	return len(l.running) < l.slots-l.Spare || l.used[c.host] == 0 || l.used[userKey(c)] == 0
}

// hasPriority reports whether a must get the next free slot before b.
func (l *Limiter) hasPriority(a, b *call) bool {
	if usedByA, usedByB := l.used[a.host]+l.used[userKey(a)], l.used[b.host]+l.used[userKey(b)]; usedByA != usedByB {
		return usedByA < usedByB
	}
	return l.used[a.conn] < l.used[b.conn]
}

// addSlots gives a slot to a call if n is 1 and takes the slot back if n is -1.
func (l *Limiter) addSlots(c *call, n int) {
	s := l.running[c]
	delete(l.running, c)
	if n > 0 {
		l.running[c] = &slot{since: time.Now()}
	}
	if s == nil || !s.isCanceled {
		l.count(c, n)
	}
}

func (l *Limiter) count(c *call, n int) {
	count(l.used, c.host, n)
	count(l.used, userKey(c), n)
	if c.conn != c.host {
		count(l.used, c.conn, n)
	}
}

// count adds n to a map entry. It removes an entry that becomes 0, so that the map contains only active callers.
func count[N int | int64](m map[string]N, key string, n N) {
	m[key] += n
	if m[key] == 0 {
		delete(m, key)
	}
}

// Counts returns the numbers of running and of waiting calls.
func (l *Limiter) Counts() (running, waiting float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return float64(len(l.running)), float64(len(l.waiting))
}

// Acquire waits until ctx's call holds the given slots for queries and puts. When the operation has ended, the caller
// must call release.
func Acquire(ctx context.Context, s operations.Slots) (release func(), err error) {
	if s == operations.NoSlot || s == operations.CopySlot { // package flightd handles the permit for copying
		return func() {}, nil
	}
	query := func() {}
	if s == operations.BothSlots { // take the query slot before the put slot: a fixed order prevents deadlocks
		query, err = AcquireQuery(ctx)
		if err != nil {
			return nil, err
		}
	}
	put, err := AcquirePut(ctx)
	if err != nil {
		query()
		return nil, err
	}
	return func() { put(); query() }, nil
}
