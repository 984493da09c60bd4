package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestHandleLife checks that a handle is not evicted while its page is read, that no page can be read twice, and that
// idle handles are closed.
func TestHandleLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q budget
		q.init(&ServerOptions{Memory: 16 << 20, MaxConnections: 10, MaxHandles: 10})
		table := &handleTable{budget: &q}
		peer := q.acquire("peer")
		h := handles{table: table, tenant: peer, space: &space{store: partd.NewDict()}, open: map[uint64]*openHandle{}}
		idle := func() bool { return table.leastRecentlyUsed(nil, 0) != nil }
		var closed atomic.Int32 // several timers close handles at once
		id := must.Get(h.add(ctx, false, func(*answerBuilder) (bool, error) {
			time.Sleep(time.Second)
			if idle() {
				t.Error("a handle counts as idle while its page is read")
			}
			return true, nil
		}, func() error { closed.Add(1); return nil }))(t)
		must.Do(t, h.read(&answerBuilder{}, id, 1))
		time.Sleep(time.Second)
		if !idle() {
			t.Error("a handle does not count as idle after its page was read")
		}
		must.Fail(t, h.read(&answerBuilder{}, id, 1), ErrLost, "reading a page again")
		must.Get(h.add(ctx, false, nil, func() error { closed.Add(1); return nil }))(t)
		time.Sleep(handleIdle)
		synctest.Wait()
		if closed.Load() != 2 || len(h.open) > 0 {
			t.Errorf("%d of two idle handles were closed, and %d are open, want 2 and 0", closed.Load(), len(h.open))
		}
		h.close()
		if _, err := h.add(ctx, false, nil, func() error { closed.Add(1); return nil }); !errors.Is(err, ErrLost) || closed.Load() != 3 {
			t.Errorf("adding a handle to a closed connection = %v, want ErrLost; %d handles were closed, want 3", err, closed.Load())
		}
	})
}

// TestWaitingHandleStaysOpen checks that a handle that waited long for admission does not count as idle when it is
// admitted.
func TestWaitingHandleStaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q budget
		q.init(&ServerOptions{Memory: 16 << 20, MaxConnections: 10, MaxHandles: 1})
		table := &handleTable{budget: &q, maxWait: time.Minute}
		peer := q.acquire("peer")
		h := handles{table: table, tenant: peer, space: &space{store: partd.NewDict()}, open: map[uint64]*openHandle{}}
		closer := func() error { return nil }
		first := must.Get(h.add(t.Context(), false, func(*answerBuilder) (bool, error) {
			time.Sleep(3 * slowAfter)
			return false, nil
		}, closer))(t)
		go func() { _ = h.read(&answerBuilder{}, first, 1) }()
		synctest.Wait()
		begin := time.Now()
		must.Get(h.add(t.Context(), false, nil, closer))(t)
		if waited := time.Since(begin); waited < slowAfter || table.leastRecentlyUsed(nil, slowAfter) != nil {
			t.Errorf("after a wait of %v, the new handle counts as idle; want a wait of at least %v, and a handle that is not idle", waited, slowAfter)
		}
		h.close()
	})
}

// queuedConn is one end of a pipe that buffers writes, as a socket does.
type queuedConn struct {
	net.Conn
	out  chan []byte
	done chan struct{}
	once sync.Once
}

func newQueued(nc net.Conn) *queuedConn {
	q := &queuedConn{Conn: nc, out: make(chan []byte, 1000), done: make(chan struct{})}
	go func() {
		for {
			select {
			case b := <-q.out:
				_, _ = nc.Write(b) // the reader detects errors
			case <-q.done:
				return
			}
		}
	}()
	return q
}

func (q *queuedConn) Write(b []byte) (int, error) {
	select {
	case q.out <- append([]byte(nil), b...):
		return len(b), nil
	case <-q.done:
		return 0, net.ErrClosed
	}
}

func (q *queuedConn) Close() error {
	q.once.Do(func() { close(q.done) })
	return q.Conn.Close()
}

// TestSlowConsumersKeepTheirListing checks that listings, scans and readers stay open even if the
// client pauses for an hour between pages.
func TestSlowConsumersKeepTheirListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := partd.NewDict()
		var entries []partd.Entry
		for i := range 10_000 {
			entries = append(entries, partd.Entry{Key: fmt.Sprintf("%01000d", i), Value: []byte("v")})
		}
		entries = append(entries, partd.Entry{Key: "large", Value: make([]byte, 4*defaultPage)})
		must.Do(t, store.Append(ctx, entries...))
		s := must.Get(NewServer(store, nil))(t)
		c := must.Get(newClient("tcp://pipe:1", nil))(t)
		c.dial = func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			s.admit(newQueued(theirs), ServeOptions{})
			return newQueued(ours), nil
		}
		must.Do(t, c.begin(ctx))
		reader := must.Get(c.Open(ctx, "large"))(t)
		keys, chunks := 0, 0
		for _, err := range c.Keys(ctx) {
			must.Do(t, err)
			if keys++; keys%3000 == 0 {
				time.Sleep(time.Hour)
			}
		}
		for _, err := range c.Scan(ctx) {
			must.Do(t, err)
			if chunks++; chunks%3000 == 0 {
				time.Sleep(time.Hour)
			}
		}
		if n := must.Get(io.Copy(io.Discard, reader))(t); keys != len(entries) || chunks < len(entries) || n != 4*defaultPage {
			t.Errorf("got %d keys, %d chunks and a value of %d bytes, want %d keys and %d bytes", keys, chunks, n, len(entries), 4*defaultPage)
		}
		must.Do(t, reader.Close())
		for range 3 { // these listings end early, and must be closed
			for range c.Keys(ctx) {
				break
			}
		}
		time.Sleep(handleIdle)
		s.mu.Lock()
		for c := range s.conns {
			c.handles.mu.Lock()
			if len(c.handles.open) > 0 {
				t.Errorf("%d handles are still open, want 0", len(c.handles.open))
			}
			c.handles.mu.Unlock()
		}
		s.mu.Unlock()
		must.Do(t, c.Close())
		must.Do(t, s.Shutdown(ctx))
	})
}

// TestSlowReaderIsServed checks that a reader slightly faster than the minimum of 16 KiB
// per second is served, and that a slower one is disconnected.
func TestSlowReaderIsServed(t *testing.T) {
	for rate, served := range map[int]bool{17 << 10: true, 12 << 10: false} {
		synctest.Test(t, func(t *testing.T) {
			s := must.Get(NewServer(partd.NewDict(), nil))(t)
			ours, theirs := net.Pipe()
			c := newConn(s, ours, 1)
			done := make(chan error, 1)
			const size = 3 * bytesPerDeadline
			go func() { done <- c.write(make([]byte, size)) }()
			got := 0
			for got < size {
				n, err := io.ReadFull(theirs, make([]byte, min(rate/4, size-got)))
				if got += n; err != nil {
					break
				}
				time.Sleep(time.Second / 4)
			}
			if err := <-done; served != (err == nil) {
				t.Errorf("write to a reader of %d bytes per second = %v after %d of %d bytes, want success: %t", rate, err, got, size, served)
			}
			if ended := c.ctx.Err() != nil; ended == served {
				t.Errorf("after a write to a reader of %d bytes per second, the connection has ended: %t, want %t", rate, ended, !served)
			}
			must.Do(t, errors.Join(ours.Close(), theirs.Close(), s.Shutdown(context.Background())))
		})
	}
}
