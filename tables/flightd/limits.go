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

// AcquireQuery waits until the call of ctx may run a query. Call release after the last row
// has been sent. A call takes only one slot, however often it asks.
func AcquireQuery(ctx context.Context) (release func(), err error) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return nil, status.Error(codes.Internal, "a query outside of a call")
	}
	return c.queries.once(ctx, c, &c.querying)
}

// with is the context of a call. Its processes go behind those of who has none.
func (c *call) with(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, callKey{}, c)
	return worker.WithCaller(ctx, c.host+" "+c.user, func() bool { return c.queries.others(c) || c.puts.others(c) })
}

// AcquirePut is AcquireQuery for calls that write rows.
func AcquirePut(ctx context.Context) (release func(), err error) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return nil, status.Error(codes.Internal, "a put outside of a call")
	}
	return c.puts.once(ctx, c, &c.putting)
}

// mostWaiting is how many calls of one host wait for a slot; one more is refused.
const mostWaiting = 1024

// yieldQueries is how long a query waits before another is ended for it.
const yieldQueries = 500 * time.Millisecond

// settledQuery is how long a query may go on, however many its user or host has.
const settledQuery = 5 * time.Second

// limiter shares slots among peers. A connection has at most a quarter of them,
// a host three quarters, and the last eighth is for hosts and users that have none:
// they do not wait for those who have more. Of those
// who wait, that of the host and the user, then of the connection, comes first that
// has the fewest, and of equal ones the one that has waited longest. Where it waits
// for long, a call of those who have more than it is ended.
type limiter struct {
	what                    string
	slots, perHost, perConn int
	spare                   int // slots, for hosts and users that have none
	patience                time.Duration
	yield                   time.Duration // that one waits before another is ended for it
	settled                 time.Duration // that a call goes on, however many its user or host has

	mu      sync.Mutex
	running map[*call]*slot
	used    map[string]int // slots of calls that go on, by host, user and connection
	waiting []*waiter
	queued  map[string]int // of waiting, by host
}

// slot is what a call has.
type slot struct {
	since time.Time
	ended bool // for another
}

type waiter struct {
	*call
	granted chan struct{}
	since   time.Time // of its coming, then of the end of a call for it
}

func newLimiter(what string, slots int, patience, yield, settled time.Duration) *limiter {
	return &limiter{
		what: what, slots: slots, perHost: max(1, slots*3/4), perConn: max(1, slots/4), spare: slots / 8,
		patience: patience, yield: yield, settled: settled, running: map[*call]*slot{}, used: map[string]int{}, queued: map[string]int{},
	}
}

func (l *limiter) once(ctx context.Context, c *call, has *atomic.Bool) (release func(), err error) {
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
	if l.queued[c.host] >= mostWaiting {
		l.mu.Unlock()
		return nil, status.Errorf(codes.ResourceExhausted, "%d %s from this host are waiting already; try again later", mostWaiting, l.what)
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
			return status.Errorf(codes.ResourceExhausted, "this connection has %d %s at a time, whose results nobody reads: read or close one of them first, or use another connection", l.perConn, l.what)
		}
	}
}

// endFor ends a call where one that waits long has less than those who run: of who has
// most, by host and by user, the newest of those that ran for a while. It is ended once
// only, and the one that waits ends one more where that holds its slot all the same.
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
		over := max(l.over(c.host, w.host), 0) + max(l.over(userKey(c), userKey(w.call)), 0)
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

// others reports whether the host of a call and its user have others that go on.
func (l *limiter) others(c *call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := 0
	if l.running[c] != nil {
		own = 1
	}
	return l.used[c.host] > own && l.used[userKey(c)] > own
}

// over is how many slots more one has than another that gets one; those of one name
// have none.
func (l *limiter) over(name, other string) int {
	if name == other {
		return 0
	}
	return l.used[name] - l.used[other] - 1
}

func userKey(c *call) string { return "user " + c.user }

// stuck reports whether a connection has all of its slots in calls whose clients
// take nothing.
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

// grant gives what is free to those who wait.
func (l *limiter) grant() {
	for len(l.running) < l.slots {
		best := -1
		for i, w := range l.waiting {
			if !l.may(w.call) {
				continue
			}
			if best < 0 || l.before(w.call, l.waiting[best].call) {
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

// may reports whether a call may have one of the slots that are free.
func (l *limiter) may(c *call) bool {
	if l.used[c.host] >= l.perHost || l.used[c.conn] >= l.perConn {
		return false
	}
	return len(l.running) < l.slots-l.spare || l.used[c.host] == 0 || l.used[userKey(c)] == 0
}

func (l *limiter) before(a, b *call) bool {
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

// count keeps no zeros, so that the map is no larger than there are peers.
func count(m map[string]int, key string, n int) {
	if m[key] += n; m[key] == 0 {
		delete(m, key)
	}
}

// counts are for metrics.
func (l *limiter) counts() (running, waiting float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return float64(len(l.running)), float64(len(l.waiting))
}
