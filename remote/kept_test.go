package remote

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
)

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
		ctx := context.Background()
		store := partd.NewDict()
		var entries []partd.Entry
		for i := range 10_000 {
			entries = append(entries, partd.Entry{Key: fmt.Sprintf("%01000d", i), Value: []byte("v")})
		}
		entries = append(entries, partd.Entry{Key: "large", Value: make([]byte, 4*defaultPage)})
		must(t, store.Append(ctx, entries...))
		s, err := NewServer(store, nil)
		must(t, err)
		c := &Client{url: "tcp://pipe:1", calls: map[uint64]*call{}, opts: ClientOptions{DialTimeout: defaultDial, RetryFor: defaultRetry, StallTimeout: defaultStall}}
		c.dial = func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			s.admit(newQueued(theirs), ServeOptions{})
			return newQueued(ours), nil
		}
		must(t, c.begin(ctx))
		reader, err := c.Open(ctx, "large")
		must(t, err)
		keys, chunks := 0, 0
		for _, err := range c.Keys(ctx) {
			must(t, err)
			if keys++; keys%3000 == 0 {
				time.Sleep(time.Hour)
			}
		}
		for _, err := range c.Scan(ctx) {
			must(t, err)
			if chunks++; chunks%3000 == 0 {
				time.Sleep(time.Hour)
			}
		}
		n, err := io.Copy(io.Discard, reader)
		if must(t, err); keys != len(entries) || chunks < len(entries) || n != 4*defaultPage {
			t.Errorf("got %d keys, %d chunks and a value of %d bytes, want %d keys and %d bytes", keys, chunks, n, len(entries), 4*defaultPage)
		}
		must(t, reader.Close())
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
		must(t, c.Close())
		must(t, s.Shutdown(ctx))
	})
}

// statCounter is a store that counts calls to Stat.
type statCounter struct {
	*partd.Dict
	stats atomic.Int32
}

func (c *statCounter) Stat(ctx context.Context) (partd.Stats, error) {
	c.stats.Add(1)
	time.Sleep(200 * time.Millisecond) // a result is cached for ten times as long as Stat took
	return c.Dict.Stat(ctx)
}

// TestStatIsCached checks that many calls to Client.Stat cause only one call to the store's Stat,
// until the store changes or the result is too old.
func TestStatIsCached(t *testing.T) {
	ctx := t.Context()
	store := &statCounter{Dict: partd.NewDict()}
	s, url := serve(t, store, nil)
	c, other := dial(t, url, nil), dial(t, url, nil)
	p := openPeer(t, url)
	keys := int64(0)
	check := func(label string) {
		before := store.stats.Load()
		var wg sync.WaitGroup
		for _, c := range []*Client{c, other, c, other} {
			wg.Go(func() {
				if st, err := c.Stat(ctx); err != nil || st.Keys != keys {
					t.Errorf("%s: Stat = %d keys, %v, want %d", label, st.Keys, err, keys)
				}
			})
		}
		wg.Wait()
		if n := store.stats.Load() - before; n != 1 {
			t.Errorf("%s: the store's Stat was called %d times, want once", label, n)
		}
	}
	check("the first call")
	must(t, c.Append(ctx, entry("a", "v")))
	keys = 1
	check("after an append")
	p.send(message("append", "b", "v"))
	p.wantBytes(acked)
	keys = 2
	check("after Python's append")
	_, err := c.Apply(ctx, partd.Tag{Session: requireSession(c.NewSession(ctx)), Number: 1}, partd.Operation{Change: partd.ChangeSet, Entries: []partd.Entry{entry("c", "v")}})
	must(t, err)
	keys = 3
	check("after an operation of a session")
	_, err = c.Pop(ctx, "a")
	must(t, err)
	keys = 2
	check("after a pop")
	if st, err := c.Stat(ctx); err != nil || st.Changes != 4 {
		t.Errorf("Stat = %d changes, %v, want 4: two appends, a set and a pop", st.Changes, err)
	}
	s.counting <- struct{}{}
	duration := s.duration
	<-s.counting
	time.Sleep(11 * duration)
	check("after the cached result has expired")
}

func requireSession(session uint64, err error) uint64 {
	if err != nil {
		panic(err)
	}
	return session
}
