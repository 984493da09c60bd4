package serving

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

// TestFairShares checks that the host with the fewest slots is served first, and that no host gets all slots.
func TestFairShares(t *testing.T) {
	l := newLimiter("queries", 8, time.Minute, time.Minute, time.Minute)
	acquire := func(host, conn string) (func(), error) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		return l.acquire(ctx, &call{host: host, conn: conn})
	}
	var got int
	for i := range 10 {
		if _, err := acquire("greedy", "greedy:"+string(rune('a'+i%5))); err == nil {
			got++
		}
	}
	if got != 6 {
		t.Errorf("a host got %d of 8 slots, want 6", got)
	}
	release, err := acquire("other", "other:1")
	if err != nil {
		t.Fatal("acquire() for another host:", err)
	}
	release()
	if running, waiting := l.Counts(); running != 6 || waiting != 0 {
		t.Errorf("%v calls run and %v wait, want 6 and 0", running, waiting)
	}
}

// TestSpareSlots checks that users and hosts without running calls need not wait for users and hosts with many.
func TestSpareSlots(t *testing.T) {
	l := newLimiter("queries", 16, time.Minute, time.Minute, time.Minute)
	acquireMany := func(host, user string) int {
		got := 0
		for i := range 16 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			if _, err := l.acquire(ctx, &call{host: host, conn: fmt.Sprint(host, i), user: user}); err == nil {
				got++
			}
			cancel()
		}
		return got
	}
	for _, w := range []struct {
		host, user string
		want       int
	}{{"a", "one", 12}, {"b", "one", 2}, {"c", "one", 1}, {"a", "two", 0}, {"b", "two", 1}, {"d", "one", 0}} {
		if got := acquireMany(w.host, w.user); got != w.want {
			t.Errorf("user %s at %s got %d slots, want %d", w.user, w.host, got, w.want)
		}
	}
}

// TestCanceledForOthers checks that a call that has waited long gets a slot of the heaviest host. The server
// cancels that host's newest settled call (one that has run for a while) and, if it does not end, the next newest.
func TestCanceledForOthers(t *testing.T) {
	const slots, slotsOfA = 8, 5
	l := newLimiter("queries", slots, time.Minute, 100*time.Millisecond, 300*time.Millisecond)
	l.Spare = 0 // otherwise, host c would get a reserved slot
	canceled := make(chan int, slots)
	var releases []func()
	for i := range slots {
		c := &call{host: "a", conn: fmt.Sprint("a:", i), user: "one"}
		if i >= slotsOfA {
			c = &call{host: "b", conn: fmt.Sprint("b:", i), user: "one"}
		}
		c.cancel = func(error) { canceled <- i }
		release := must.Get(l.acquire(t.Context(), c))(t)
		releases = append(releases, release)
	}
	acquired := make(chan error, 1)
	start := time.Now()
	go func() { acquired <- must.Err(l.acquire(t.Context(), &call{host: "c", conn: "c:1", user: "one"})) }()
	for _, want := range []int{slotsOfA - 1, slotsOfA - 2} { // the first canceled call does not end
		if got := <-canceled; got != want {
			t.Errorf("call %d was canceled, want %d", got, want)
		}
		if time.Since(start) < 300*time.Millisecond {
			t.Errorf("a call was canceled %v after the start, want at least 300ms", time.Since(start))
		}
	}
	releases[slotsOfA-2]()
	must.Do(t, <-acquired)
	releases[slotsOfA-1]()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for range 3 { // after the first of these calls, all slots are used, and host c has as many as the other hosts
		_, _ = l.acquire(ctx, &call{host: "c", conn: "c:2", user: "one"})
	}
	select {
	case i := <-canceled:
		t.Errorf("call %d was canceled for a host with as many slots", i)
	default:
	}
	for _, release := range slices.Delete(releases, slotsOfA-2, slotsOfA) {
		release()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used["a"] != 0 || l.used["b"] != 0 || l.used["c"] != len(l.running) {
		t.Errorf("used slots are %v while %d calls run, want only slots of host c", l.used, len(l.running))
	}
}

// TestCanceledForOtherUsers checks that a call that has waited long gets a slot of another user at its own host.
func TestCanceledForOtherUsers(t *testing.T) {
	l := newLimiter("queries", 4, time.Minute, 20*time.Millisecond, 20*time.Millisecond)
	for i := range 4 {
		c := &call{host: fmt.Sprint(i % 2), conn: fmt.Sprint(i), user: "one"}
		release := must.Get(l.acquire(t.Context(), c))(t)
		c.cancel = func(cause error) {
			if cause != errShare {
				t.Errorf("a call was canceled with %v, want errShare", cause)
			}
			go release()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := l.acquire(ctx, &call{host: "0", conn: "4", user: "two"}); err != nil {
		t.Errorf("another user at the same host got no slot: %v", err)
	}
}

// TestShareOfOtherUsers checks that a call whose host or connection has used up its share gets a slot of another user
// there who has more, and never one from elsewhere.
func TestShareOfOtherUsers(t *testing.T) {
	for name, conn := range map[string]func(i int) string{"host": func(i int) string { return fmt.Sprint("a:", i) }, "connection": func(int) string { return "a:0" }} {
		l := newLimiter("queries", 8, time.Minute, 20*time.Millisecond, 20*time.Millisecond)
		l.Spare = 0 // otherwise, host b would get a single slot
		for i := range 12 {
			c := &call{host: "a", conn: conn(i), user: "one"}
			if name == "host" {
				c.user = fmt.Sprint("one", i%3) // each gets two slots
			}
			if i >= 8 {
				c = &call{host: "b", conn: "b:0", user: "newer"}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			release, err := l.acquire(ctx, c)
			cancel()
			c.cancel = func(cause error) {
				if c.host != "a" || cause != errShare {
					t.Errorf("%s: a call of host %s was canceled with %v", name, c.host, cause)
				}
				go release()
			}
			if got := l.used[c.conn] <= l.perConn && l.used[c.host] <= l.PerHost; !got || (err == nil) != (l.running[c] != nil) {
				t.Errorf("%s: call %d: more slots than the share: %v", name, i, l.used)
			}
		}
		for user, want := range map[string]bool{cmp.Or(map[string]string{"host": "one0"}[name], "one"): false, "two": true} {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			_, err := l.acquire(ctx, &call{host: "a", conn: conn(0), user: user})
			cancel()
			if (err == nil) != want {
				t.Errorf("%s: user %s: got %v, want a slot: %v", name, user, err, want)
			}
		}
	}
}

// TestCallLimitUsers checks that a call that would be refused ends the newest call of the user with the most calls on
// the same host, if that user keeps as many.
func TestCallLimitUsers(t *testing.T) {
	limit := NewCallLimit(8, 4)
	var canceled []string
	acquire := func(host, user string, n int) bool {
		c := &call{host: host, user: user}
		c.cancel = func(error) { canceled = append(canceled, fmt.Sprint(user, n)) }
		_, ok := limit.AcquireCall(context.WithValue(t.Context(), callKey{}, c))
		return ok
	}
	for i, c := range []struct {
		host, user string
		want       bool
		canceled   string
	}{
		{"a", "one", true, "[]"},
		{"a", "two", true, "[]"},
		{"a", "one", true, "[]"},
		{"a", "one", true, "[]"},
		{"a", "one", false, "[]"}, // the host is full
		{"b", "one", true, "[]"},
		{"a", "three", true, "[one3]"},
		{"a", "four", true, "[one3 one2]"},
		{"a", "four", false, "[one3 one2]"}, // each user has one
		{"a", "five", false, "[one3 one2]"},
	} {
		if ok := acquire(c.host, c.user, i); ok != c.want || fmt.Sprint(canceled) != c.canceled {
			t.Errorf("call %d of %s at %s: got %v, canceled %v, want %v, %s", i, c.user, c.host, ok, canceled, c.want, c.canceled)
		}
	}
}

// TestCallLimit checks that for a host at its limit, Acquire cancels the host's oldest call, or fails if none can be
// canceled. A call of a host without running calls must cancel the oldest call of another host.
func TestCallLimit(t *testing.T) {
	limit := NewCallLimit(8, 4)
	for i := range 6 {
		if _, ok := limit.Acquire(fmt.Sprintf("127.0.0.1:%d", i), nil); ok != (i < 4) {
			t.Errorf("Acquire of call %d without a cancel function = %v, want %v", i, ok, i < 4)
		}
	}
	var canceled []int
	for i := range 6 {
		if _, ok := limit.Acquire(fmt.Sprintf("[2001:db8::%d]:1", i), func() { canceled = append(canceled, i) }); !ok { // all addresses count as one host
			t.Errorf("Acquire of call %d with a cancel function failed", i)
		}
	}
	if release, ok := limit.Acquire("127.0.0.3:1", nil); !ok || fmt.Sprint(canceled) != "[0 1 2]" || len(limit.holders) != 8 {
		t.Errorf("Acquire = %v, canceled calls %v, %d running, want the three oldest canceled and 8 running", ok, canceled, len(limit.holders))
	} else if release(); len(limit.holders) != 7 {
		t.Errorf("after a release, %d calls are running, want 7", len(limit.holders))
	}
}

// TestMemoryOverflow checks that Add calls Overflow when the total crosses the limit, and again at each further
// sixteenth of the limit, and that TryAdd never does, because its callers hold a lock.
func TestMemoryOverflow(t *testing.T) {
	overflows := 0
	m := &Memory{Limit: 1600, Overflow: func() { overflows++ }}
	for i, c := range []struct {
		add  int64
		want int
	}{{1600, 0}, {50, 1}, {10, 1}, {100, 2}, {-200, 2}, {60, 3}} {
		if m.Add(c.add); overflows != c.want {
			t.Errorf("step %d: after Add(%d), Overflow was called %d times, want %d", i, c.add, overflows, c.want)
		}
	}
	if m.TryAdd(1) || overflows != 3 {
		t.Errorf("TryAdd above the limit succeeded, or called Overflow %d times, want 3", overflows)
	}
	if m.Add(-1000); !m.TryAdd(900) || m.TryAdd(100) || m.Used() != 1520 {
		t.Errorf("%d bytes are in use, want 1520", m.Used())
	}
}

// TestBothSlotsOrNone checks that an operation that needs both slots releases its query slot if it gets no put slot.
func TestBothSlotsOrNone(t *testing.T) {
	s := must.Get(New(nil, &Options{Queries: 1, Puts: 1}))(t)
	ctx, end := s.NewCall(t.Context(), &Caller{Rights: Admin}, "")
	defer end(nil)
	releasePut := must.Get(Acquire(ctx, operations.PutSlot))(t)
	waitingCtx, endWaiting := s.NewCall(t.Context(), &Caller{Rights: Admin}, "")
	done := make(chan error, 1)
	go func() { done <- must.Err(Acquire(waitingCtx, operations.BothSlots)) }()
	for _, waiting := s.Puts.Counts(); waiting == 0; _, waiting = s.Puts.Counts() {
		time.Sleep(time.Millisecond)
	}
	endWaiting(context.Canceled)
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Errorf("the waiting Acquire = %v, want Canceled", err)
	}
	if running, waiting := s.Queries.Counts(); running+waiting != 0 {
		t.Fatalf("%v queries run and %v wait, want none", running, waiting)
	}
	releasePut()
	releaseBoth := must.Get(Acquire(ctx, operations.BothSlots))(t)
	releaseBoth()
	queries, _ := s.Queries.Counts()
	if puts, _ := s.Puts.Counts(); queries+puts != 0 {
		t.Errorf("%v query slots and %v put slots are still used", queries, puts)
	}
}

// TestUnknownOutcome checks that a call that was canceled for another user does not promise that nothing has changed if
// its put may be stored.
func TestUnknownOutcome(t *testing.T) {
	requests := must.Get(New(nil, nil))(t).NewRequests()
	q := requests.New(httptest.NewRecorder(), httptest.NewRequest("POST", "/", nil))
	for want, outcome := range map[codes.Code]error{codes.Unknown: partd.ErrUnknownOutcome, codes.ResourceExhausted: errors.New("not stored")} {
		err := q.Serve("put", false, 0, func() error {
			q.Ctx.Value(callKey{}).(*call).cancel(errShare)
			return fmt.Errorf("%w: %w", outcome, context.Cause(q.Ctx))
		})
		got, flight := status.Code(Status(err)), status.Code(WithCause(q.Ctx, Status(fmt.Errorf("%w: %w", outcome, errShare))))
		if got != want || flight != want {
			t.Errorf("%v: got %v over HTTP, and %v over Flight, want %v", outcome, got, flight, want)
		}
	}
}

// TestCanceledRead checks that a request that was canceled while it waited for its body gets the cause, even though the
// cancellation ends the read by its deadline.
func TestCanceledRead(t *testing.T) {
	requests := must.Get(New(nil, nil))(t).NewRequests()
	for _, tc := range []struct{ cause, want error }{{errShare, errShare}, {errTooLong, errTooLong}, {context.Canceled, ErrSending}} {
		q := requests.New(httptest.NewRecorder(), httptest.NewRequest("POST", "/", iotest.ErrReader(os.ErrDeadlineExceeded)))
		err := q.Serve("put", false, 0, func() error {
			_, err := io.ReadAll(q.Body)
			q.Ctx.Value(callKey{}).(*call).cancel(tc.cause)
			return err
		})
		if !errors.Is(err, tc.want) {
			t.Errorf("canceled with %v: got %v, want %v", tc.cause, err, tc.want)
		}
	}
}

// TestCharge checks that requests share a quarter of the memory, that only the request that was charged first may exceed
// it, and that no request gets memory before an earlier one that waits.
func TestCharge(t *testing.T) {
	server := must.Get(New(nil, &Options{Memory: 64 << 20, MaxMessage: 1 << 20}))(t)
	requests := server.NewRequests()
	request := func() *Request {
		q := requests.New(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		q.release = func() {}
		return q
	}
	first, second, third, fourth := request(), request(), request(), request()
	for i, c := range []struct {
		q            *Request
		requestedMiB int64
		ok           bool
		charged      int64
	}{
		{first, 7, true, 7},
		{second, 7, true, 14},
		{third, 3, false, 14},
		{fourth, 1, false, 14}, // waits for third
		{second, 10, false, 14},
		{first, 100, true, 107},
		{first, 50, true, 107},
		{second, 5, true, 107},
		{second, 8, false, 107},
	} {
		if ok := requests.tryCharge(c.q, c.requestedMiB<<20); ok != c.ok || requests.charged != c.charged<<20 {
			t.Errorf("step %d: tryCharge = %v with %d MiB charged, want %v with %d MiB", i, ok, requests.charged>>20, c.ok, c.charged)
		}
	}
	first.release()
	if !requests.tryCharge(second, 100<<20) {
		t.Error("after the first request ended, the second request may not exceed the limit")
	}
	second.release()
	if used := server.Memory.Used(); requests.charged != 0 || len(requests.holders) != 0 || used != 0 {
		t.Errorf("after all requests: %d bytes charged to %d requests, %d bytes used, want none", requests.charged, len(requests.holders), used)
	}
}
