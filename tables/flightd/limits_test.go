package flightd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
)

// waitFor waits until ok returns true. If this takes too long, it fails the test with the given message.
func waitFor(t *testing.T, failure string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(failure)
		}
	}
}

// TestLostBuffers checks that buffers of canceled streams are subtracted from the server's memory budget
// within seconds, even if the server is idle.
func TestLostBuffers(t *testing.T) {
	s, _, _ := serveTest(t, nil)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	s.memory.Get(8 << 20)
	if used := s.memory.used.Load(); used < 8<<20 {
		t.Fatalf("the budget counts %d bytes, want at least 8 MiB", used)
	}
	waitFor(t, "a lost buffer is still counted", func() bool { return s.memory.used.Load() < 1<<20 })
}

// TestCutPut checks that interrupted puts leave no rows, table, slot or memory.
func TestCutPut(t *testing.T) {
	s, store, address := serveTest(t, nil)
	for range 20 {
		c := dialTest(t, address)
		if err := putTest(t.Context(), c, `{"name":"kept","mode":"replace"}`, 1, 10); err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{`{"name":"cut"}`, `{"name":"kept","mode":"append"}`, `{"name":"kept","mode":"replace"}`} {
			ctx, cancel := context.WithCancel(t.Context())
			if _, _, err := beginPut(ctx, c, command, 3, 100_000); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
		_ = c.Close()
	}
	waitFor(t, "canceled puts still hold their slots", func() bool { running, waiting := s.puts.counts(); return running+waiting == 0 })
	if _, err := store.Bucket("").Table(t.Context(), "cut"); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("after canceled puts, Table error = %v, want ErrNotFound", err)
	}
	table, err := store.Bucket("").Table(t.Context(), "kept")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := table.Info(t.Context()); err != nil || info.Rows != 10 {
		t.Errorf("table kept has %d rows, want 10; error: %v", info.Rows, err)
	}
	waitFor(t, "canceled puts still hold memory", func() bool {
		runtime.GC()
		return s.memory.used.Load() < 1<<20
	})
}

// TestStalled checks that clients that receive or send nothing are disconnected, while others are served.
func TestStalled(t *testing.T) {
	s, _, address := serveTest(t, &Options{IdleTimeout: 500 * time.Millisecond, Queries: 4, Puts: 4})
	good := dialTest(t, address)
	if err := putTest(t.Context(), good, `{"name":"t"}`, 20, 200_000); err != nil {
		t.Fatal(err)
	}
	greedy := dialTest(t, address)
	for range 10 {
		if _, err := greedy.DoGet(t.Context(), &flight.Ticket{Ticket: []byte(`{"name":"t"}`)}); err != nil { // the client reads nothing
			t.Fatal(err)
		}
		if _, _, err := beginPut(t.Context(), greedy, `{"name":"stalled"}`, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	if err := putTest(t.Context(), good, `{"name":"t","mode":"append"}`, 1, 1); err != nil {
		t.Error(err)
	}
	st, err := good.DoGet(t.Context(), &flight.Ticket{Ticket: []byte(`{"name":"t"}`)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := flight.NewRecordReader(st)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	var rows int64
	for r.Next() {
		rows += r.RecordBatch().NumRows()
	}
	if r.Err() != nil || rows != 4_000_001 {
		t.Errorf("got %d rows, error %v; want 4,000,001", rows, r.Err())
	}
	if elapsed := time.Since(start); elapsed > 10*time.Second {
		t.Errorf("the calls of another client took %s, want at most 10 s", elapsed)
	}
	waitFor(t, "the stalled clients were not cut off", func() bool {
		queries, q := s.queries.counts()
		puts, p := s.puts.counts()
		return queries+q+puts+p == 0
	})
}

// TestIdleConnections checks that silent connections are limited in number and do not block other clients.
func TestIdleConnections(t *testing.T) {
	const limit = 50
	s, _, address := serveTest(t, &Options{Connections: limit})
	for range 10 * limit {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := doAction(t.Context(), dialTest(t, address), "ping", ""); err != nil {
		t.Errorf("a ping during the flood failed: %v", err)
	}
	if n := s.conns.count(); n > limit {
		t.Errorf("%d connections are open, want at most %d", n, limit)
	}
}

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
	if running, waiting := l.counts(); running != 6 || waiting != 0 {
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

// TestMemory checks that the newest put fails if messages exceed the memory limit, and that the server continues.
func TestMemory(t *testing.T) {
	s, _, address := serveTest(t, &Options{Memory: 4 << 20, MaxMessage: 2 << 20})
	c := dialTest(t, address)
	s.memory.used.Add(3 << 20) // simulates other messages
	done := make(chan error, 1)
	go func() { done <- putTest(t.Context(), c, `{"name":"t"}`, 1, 1000) }()
	select {
	case err := <-done:
		t.Fatalf("a put did not wait for memory: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	s.memory.add(2 << 20)
	if err := <-done; status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the put returned %v, want ResourceExhausted", err)
	}
	s.memory.used.Add(-5 << 20)
	if err := putTest(t.Context(), c, `{"name":"t"}`, 1, 1000); err != nil {
		t.Error(err)
	}
}

// TestCanceledForOthers checks that a call that has waited long gets a slot of the heaviest host. The server
// cancels that host's newest settled call (one that has run for a while) and, if it does not end, the next newest.
func TestCanceledForOthers(t *testing.T) {
	const slots, slotsOfA = 8, 5
	l := newLimiter("queries", slots, time.Minute, 100*time.Millisecond, 300*time.Millisecond)
	l.spare = 0 // otherwise, host c would get a reserved slot
	canceled := make(chan int, slots)
	var releases []func()
	for i := range slots {
		c := &call{host: "a", conn: fmt.Sprint("a:", i), user: "one"}
		if i >= slotsOfA {
			c = &call{host: "b", conn: fmt.Sprint("b:", i), user: "one"}
		}
		c.cancel = func(error) { canceled <- i }
		release, err := l.acquire(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	acquired := make(chan error, 1)
	start := time.Now()
	go func() {
		_, err := l.acquire(t.Context(), &call{host: "c", conn: "c:1", user: "one"})
		acquired <- err
	}()
	for _, want := range []int{slotsOfA - 1, slotsOfA - 2} { // the first canceled call does not end
		if got := <-canceled; got != want {
			t.Errorf("call %d was canceled, want %d", got, want)
		}
		if time.Since(start) < 300*time.Millisecond {
			t.Errorf("a call was canceled %v after the start, want at least 300ms", time.Since(start))
		}
	}
	releases[slotsOfA-2]()
	if err := <-acquired; err != nil {
		t.Error(err)
	}
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
