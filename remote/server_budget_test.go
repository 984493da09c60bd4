package remote

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

func (s *Server) memoryUsed() int64 {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	return s.budget.used[memory]
}

func (s *Server) connCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// holders returns the number of connections that hold memory.
func (s *Server) holders() (n int) {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	for a := range s.budget.accounts {
		if a.heldBytes > 0 {
			n++
		}
	}
	return n
}

// takeAll takes all memory of a server. The returned function gives it back.
func takeAll(t *testing.T, s *Server) (giveBack func()) {
	a := s.budget.newAccount(s.budget.acquire("another"), time.Minute, func() {})
	must.Do(t, a.take(t.Context(), s.opts.Memory, finish))
	return func() { a.give(s.opts.Memory) }
}

// TestStuckReaders checks that a get is answered without waiting for memory while connections that requested a large
// value read nothing. A busy machine may need several seconds.
func TestStuckReaders(t *testing.T) {
	store := must.Get(partd.OpenFile(t.TempDir(), nil))(t)
	must.Do(t, store.Append(ctx, entry("small", "v"), partd.Entry{Key: "large", Value: make([]byte, 12<<20)}))
	s, url := serve(t, store, &ServerOptions{Memory: 32 << 20})
	sameAddress, otherAddress := dial(t, url, nil), dialFrom(t, url, "127.0.0.2")
	// The size of an answer's pages depends on the memory that others hold, so a request is sent when the previous one holds its memory.
	for n := range 60 {
		openPeer(t, url).send(message("get", "large"))
		must.Eventually(t, time.Minute, "the connection that reads nothing holds no memory", func() bool { return s.holders() > n })
	}
	for range 5 {
		requireWithin(t, time.Minute, "a get from the same address", func() error { _, err := sameAddress.Get(ctx, "small"); return err })
		requireWithin(t, time.Minute, "a get from another address", func() error { _, err := otherAddress.Get(ctx, "small"); return err })
		if n := s.budget.waitCount.Load(); n > 0 {
			t.Fatalf("%d requests waited for memory, want none", n)
		}
	}
}

// TestStoppedHolderIsEvicted checks that a connection that holds memory and reads nothing is
// evicted when another connection waits for memory, even if the system's socket buffers had
// accepted some MiB for it.
func TestStoppedHolderIsEvicted(t *testing.T) {
	for name, timeout := range map[string]time.Duration{"holder": 4 * time.Second, "other": time.Second} {
		synctest.Test(t, func(t *testing.T) {
			q := newQuotas(16 << 20)
			evicted := make(chan struct{})
			var holder *account
			holder = q.newAccount(q.acquire("holder"), time.Minute, func() {
				close(evicted)
				holder.give(12 << 20)
			})
			must.Do(t, holder.take(t.Context(), 12<<20, admission))
			holder.sent.Add(6 << 20)
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			if err := q.newAccount(q.acquire(name), time.Minute, func() {}).take(ctx, 8<<20, admission); err != nil {
				t.Errorf("take for peer %s: %v", name, err)
			}
			cancel()
			select {
			case <-evicted:
			default:
				t.Errorf("while peer %s waited, the connection that reads nothing was not evicted", name)
			}
		})
	}
}

// TestSlowHolderIsNotEvicted checks that a connection that reads slowly stays open while another waits for memory.
func TestSlowHolderIsNotEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuotas(16 << 20)
		sender := q.acquire("peer")
		holder := q.newAccount(sender, time.Minute, func() { t.Error("the connection was evicted") })
		must.Do(t, holder.take(t.Context(), 12<<20, admission))
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error, 1)
		go func() { got <- q.newAccount(sender, time.Minute, func() {}).take(ctx, 8<<20, admission) }()
		for range 75 {
			time.Sleep(40 * time.Millisecond)
			holder.sent.Add(slowBytes / 5)
		}
		cancel()
		must.Fail(t, <-got, ErrBusy, "take of the other connection")
	})
}

// TestImpossibleRequestFailsImmediately checks that a request does not wait if it needs more memory than the server
// has.
func TestImpossibleRequestFailsImmediately(t *testing.T) {
	store := partd.NewDict()
	_, url := serve(t, store, &ServerOptions{Memory: 16 << 20, StallTimeout: 20 * time.Second})
	c := dial(t, url, nil)
	keys := make([]string, 240_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("%08d", i)
	}
	requireWithin(t, 15*time.Second, "a delete of very many keys", func() error {
		if err := c.Delete(ctx, keys...); !errors.Is(err, partd.ErrTooLarge) {
			return fmt.Errorf("Delete = %v, want ErrTooLarge", err)
		}
		return nil
	})
	for n, fits := range map[int]bool{200_000: false, 60_000: true} { // n frames are n/2 keys with their values
		p := openPeer(t, url)
		requireWithin(t, 15*time.Second, fmt.Sprint("Python's append of ", n/2, " keys"), func() error {
			frames := append([]string{"append"}, keys[:n]...)
			go p.Write(message(frames...))
			if fits {
				p.wantBytes(acked)
			} else if text := p.wantError(); !strings.Contains(text, "too large") {
				return fmt.Errorf("the answer is %q, want an error saying that the request is too large", text)
			}
			return nil
		})
	}
}

// TestMemoryIsReturned checks that memory is returned to the system a few seconds after a burst of requests.
func TestMemoryIsReturned(t *testing.T) {
	s, url := serve(t, partd.NewDict(), &ServerOptions{Memory: 128 << 20, MaxMessage: 32 << 20})
	residentHeap := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapSys - m.HeapReleased)
	}
	before := residentHeap()
	var peers []*peer
	for range 3 {
		p := openPeer(t, url)
		go p.Write(joinBytes(longHeader(0, 24<<20), make([]byte, 23<<20)))
		peers = append(peers, p)
	}
	must.Eventually(t, time.Minute, "the requests use less than 66 MiB", func() bool { return s.memoryUsed() >= 66<<20 })
	for _, p := range peers {
		must.Do(t, p.Close())
	}
	must.Eventually(t, 5*releaseAfter, "the heap has over 48 MiB more than before the requests", func() bool {
		return residentHeap() <= before+48<<20
	})
}

// busyStore is a store whose deletes block until proceed is closed.
type busyStore struct {
	*partd.Dict
	proceed       chan struct{}
	running, peak atomic.Int64 // current and maximum number of concurrent deletes
}

func (s *busyStore) Delete(ctx context.Context, keys ...string) error {
	if n := s.running.Add(1); n > s.peak.Load() {
		s.peak.Store(n)
	}
	defer s.running.Add(-1)
	<-s.proceed
	time.Sleep(100 * time.Millisecond) // a change that does not wait for its turn overlaps with this one
	return s.Dict.Delete(ctx, keys...)
}

// TestLargeChangesTakeTurns checks that other requests are served between a peer's changes with very many keys.
func TestLargeChangesTakeTurns(t *testing.T) {
	store := &busyStore{Dict: partd.NewDict(), proceed: make(chan struct{})}
	_, url := serve(t, store, nil)
	frames := append([]string{"delete"}, make([]string, 2*manyKeys)...)
	var peers []*peer
	for range 6 {
		p := openPeer(t, url)
		p.send(message(frames...))
		peers = append(peers, p)
	}
	for _, ip := range []string{"127.0.0.1", "127.0.0.2"} {
		c := dialFrom(t, url, ip)
		getCtx, cancel := context.WithTimeout(t.Context(), time.Minute)
		must.Check(t, must.Err(c.Get(getCtx, "k")))
		cancel()
	}
	close(store.proceed)
	for _, p := range peers {
		p.wantBytes(acked)
	}
	if n := store.peak.Load(); n != 1 {
		t.Errorf("%d large changes of a peer were applied concurrently, want 1", n)
	}
}

// TestGetWaitsForMemory checks that a get of a store in memory waits for memory for the value.
func TestGetWaitsForMemory(t *testing.T) {
	store := partd.NewDict()
	must.Do(t, store.Append(ctx, partd.Entry{Key: "k", Value: make([]byte, 1<<20)}))
	s, c := serveClient(t, store, &ServerOptions{Memory: 4 << 20, StallTimeout: 100 * time.Millisecond})
	giveBack := takeAll(t, s)
	must.Fail(t, must.Err(c.Get(ctx, "k")), ErrBusy, "Get without memory")
	giveBack()
	must.Get(c.Get(ctx, "k"))(t)
}

// TestManyTinyItems checks that requests are refused if their decoded form would need many times their length.
func TestManyTinyItems(t *testing.T) {
	store := partd.NewDict()
	s, c := serveClient(t, store, &ServerOptions{Memory: 4 << 20, MaxMessage: 1 << 20})
	for op, size := range map[operation]int{opGet: 2, opDelete: 2, opAppend: entryHeaderLen} {
		req := newCall(op)
		n := 900_000 / size
		req.u32(uint32(n))
		req.appendData(make([]byte, n*size))
		must.Fail(t, c.do(ctx, req), partd.ErrTooLarge, "%s of %d empty items", op, n)
	}
	must.Do(t, c.Append(ctx, entry("k", "v")))
	must.Do(t, c.Close())
	if used := s.memoryUsed(); used > 3<<20 {
		t.Errorf("%d bytes of memory are in use, want at most 3 MiB", used)
	}
}
