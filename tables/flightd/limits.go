package flightd

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables/internal/worker"
)

// AcquireQuery waits until the call of ctx may run a query. The caller must call release
// after the last row has been sent. A call uses only one slot, however often it calls
// AcquireQuery.
func AcquireQuery(ctx context.Context) (release func(), err error) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return nil, status.Error(codes.Internal, "a query outside of a call")
	}
	return c.queries.acquireOnce(ctx, c, &c.querying)
}

// with returns the context of a call. The call's worker processes yield to other callers
// while the call's host and user have other calls.
func (c *call) with(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, callKey{}, c)
	return worker.WithCaller(ctx, c.host+" "+c.user, func() bool { return c.queries.hasOthers(c) || c.puts.hasOthers(c) })
}

// AcquirePut is like AcquireQuery, for calls that write rows.
func AcquirePut(ctx context.Context) (release func(), err error) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return nil, status.Error(codes.Internal, "a put outside of a call")
	}
	return c.puts.acquireOnce(ctx, c, &c.putting)
}

// maxWaiting limits the calls of one host that wait for a slot.
const maxWaiting = 1024

// queryYieldTime is how long a query waits before it cancels another one to get its slot.
const queryYieldTime = 500 * time.Millisecond

// querySettleTime is how long a query runs before it can be canceled for another one.
const querySettleTime = 5 * time.Second

// limiter shares slots among callers. A connection may use a quarter of them, a host
// three quarters. The last eighth is for hosts and users without a running call, so that
// they need not wait for busier ones. The next slot goes to the host and user, and then
// to the connection, with the fewest slots; among equals, the longest waiting call is
// first. A call that has waited long causes the cancellation of a call of a host or user
// with more slots.
type limiter struct {
	name                    string
	slots, perHost, perConn int
	spare                   int // slots reserved for hosts and users without a running call
	patience                time.Duration
	yield                   time.Duration // how long a call waits before another is canceled for it
	settled                 time.Duration // how long a call runs before it can be canceled for another

	mu      sync.Mutex
	running map[*call]*slot
	used    map[string]int // slots of running calls, by host, user and connection
	waiting []*waiter
	queued  map[string]int // number of waiting calls, by host
}

// slot is the slot of a running call.
type slot struct {
	since time.Time
	ended bool // canceled for another call
}

type waiter struct {
	*call
	granted chan struct{}
	since   time.Time // when it arrived or last canceled a call
}

func newLimiter(name string, slots int, patience, yield, settled time.Duration) *limiter {
	return &limiter{
		name: name, slots: slots, perHost: max(1, slots*3/4), perConn: max(1, slots/4), spare: slots / 8,
		patience: patience, yield: yield, settled: settled, running: map[*call]*slot{}, used: map[string]int{}, queued: map[string]int{},
	}
}

func (l *limiter) acquireOnce(ctx context.Context, c *call, has *atomic.Bool) (release func(), err error) {
	if has.Swap(true) {
		return func() {}, nil
	}
	give, err := l.acquire(ctx, c)
	if err != nil {
		has.Store(false)
		return nil, err
	}
	return sync.OnceFunc(func() { has.Store(false); give() }), nil
}

func (l *limiter) acquire(ctx context.Context, c *call) (release func(), err error) {
	w := &waiter{c, make(chan struct{}), time.Now()}
	l.mu.Lock()
	if l.queued[c.host] >= maxWaiting {
		l.mu.Unlock()
		return nil, status.Errorf(codes.ResourceExhausted, "%d %s from this host are waiting already; try again later", maxWaiting, l.name)
	}
	l.waiting = append(l.waiting, w)
	l.queued[c.host]++
	l.grant()
	l.mu.Unlock()
	err = l.wait(ctx, w)
	if err == nil {
		return func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.give(c, -1)
			l.grant()
		}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, w); i >= 0 {
		l.dequeue(i)
	} else {
		l.give(c, -1)
		l.grant()
	}
	return nil, err
}

func (l *limiter) wait(ctx context.Context, w *waiter) error {
	tick := time.NewTicker(min(l.patience, l.yield))
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-w.granted:
			return nil
		case <-ctx.Done():
			return status.FromContextError(context.Cause(ctx)).Err()
		case <-tick.C:
		}
		l.endFor(w)
		if time.Since(began) >= l.patience && l.stuck(w.conn) {
			return status.Errorf(codes.ResourceExhausted, "this connection has %d running %s with unread results: read or close one of them first, or use another connection", l.perConn, l.name)
		}
	}
}

// endFor cancels a call if w has waited long, and a host or user with more slots runs a
// settled call. It cancels the newest such call of the heaviest host and user. It cancels
// a call only once. If that call keeps its slot, w cancels another one later.
func (l *limiter) endFor(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(w.since) < l.yield || len(l.running) < l.slots-l.spare || l.used[w.host] >= l.perHost || l.used[w.conn] >= l.perConn {
		return
	}
	var victim *call
	most := 0
	for c, s := range l.running {
		if s.ended || now.Sub(s.since) < l.settled {
			continue
		}
		over := max(l.excess(c.host, w.host), 0) + max(l.excess(userKey(c), userKey(w.call)), 0)
		if over > most || over == most && victim != nil && s.since.After(l.running[victim].since) {
			victim, most = c, over
		}
	}
	if victim == nil {
		return
	}
	w.since = now.Add(time.Second)
	l.running[victim].ended = true
	l.count(victim, -1)
	victim.cancel(errShare)
}

// hasOthers reports whether a call's host and its user both have other running calls.
func (l *limiter) hasOthers(c *call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := 0
	if l.running[c] != nil {
		own = 1
	}
	return l.used[c.host] > own && l.used[userKey(c)] > own
}

// excess returns by how many slots name exceeds other once other gets one more. It is 0 if both are
// the same.
func (l *limiter) excess(name, other string) int {
	if name == other {
		return 0
	}
	return l.used[name] - l.used[other] - 1
}

func userKey(c *call) string { return "user " + c.user }

// stuck reports whether all slots of a connection belong to calls whose clients receive
// nothing.
func (l *limiter) stuck(conn string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.running {
		since := c.sending.Load()
		if c.conn == conn && (since == 0 || time.Since(time.Unix(0, since)) < l.patience/2) {
			return false
		}
	}
	return l.used[conn] >= l.perConn
}

// grant gives free slots to waiting calls.
func (l *limiter) grant() {
	for len(l.running) < l.slots {
		best := -1
		for i, w := range l.waiting {
			if !l.mayGet(w.call) {
				continue
			}
			if best < 0 || l.isBefore(w.call, l.waiting[best].call) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		w := l.waiting[best]
		l.dequeue(best)
		l.give(w.call, 1)
		close(w.granted)
	}
}

// mayGet reports whether a call may have one of the free slots.
func (l *limiter) mayGet(c *call) bool {
	if l.used[c.host] >= l.perHost || l.used[c.conn] >= l.perConn {
		return false
	}
	return len(l.running) < l.slots-l.spare || l.used[c.host] == 0 || l.used[userKey(c)] == 0
}

func (l *limiter) isBefore(a, b *call) bool {
	if has, had := l.used[a.host]+l.used[userKey(a)], l.used[b.host]+l.used[userKey(b)]; has != had {
		return has < had
	}
	return l.used[a.conn] < l.used[b.conn]
}

func (l *limiter) dequeue(i int) {
	count(l.queued, l.waiting[i].host, -1)
	l.waiting = slices.Delete(l.waiting, i, i+1)
}

func (l *limiter) give(c *call, n int) {
	s := l.running[c]
	if delete(l.running, c); n > 0 {
		l.running[c] = &slot{since: time.Now()}
	}
	if s == nil || !s.ended {
		l.count(c, n)
	}
}

func (l *limiter) count(c *call, n int) {
	count(l.used, c.host, n)
	count(l.used, userKey(c), n)
	if c.conn != c.host {
		count(l.used, c.conn, n)
	}
}

// count changes an entry and removes zeros, so that the map holds only active callers.
func count(m map[string]int, key string, n int) {
	if m[key] += n; m[key] == 0 {
		delete(m, key)
	}
}

// counts returns the numbers of running and waiting calls, for metrics.
func (l *limiter) counts() (running, waiting float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return float64(len(l.running)), float64(len(l.waiting))
}
