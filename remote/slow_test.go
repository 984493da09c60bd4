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
)

// TestSlowReaderIsServed checks that a reader slightly faster than the minimum of 16 KiB
// per second is served, and that a slower one is disconnected.
func TestSlowReaderIsServed(t *testing.T) {
	for rate, served := range map[int]bool{17 << 10: true, 12 << 10: false} {
		synctest.Test(t, func(t *testing.T) {
			s, err := NewServer(partd.NewDict(), nil)
			must(t, err)
			ours, theirs := net.Pipe()
			c := newConn(s, ours, 1)
			done := make(chan error, 1)
			const size = 3 * writeStep
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
			must(t, errors.Join(ours.Close(), theirs.Close(), s.Shutdown(context.Background())))
		})
	}
}

// stuckConn is a connection whose peer stops reading.
type stuckConn struct {
	net.Conn
	full   atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func (s *stuckConn) Write(b []byte) (int, error) {
	if s.full.Load() {
		<-s.closed
		return 0, net.ErrClosed
	}
	return s.Conn.Write(b)
}

func (s *stuckConn) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

// TestCloseIsBounded checks that Close returns even if the server no longer reads.
func TestCloseIsBounded(t *testing.T) {
	ctx := t.Context()
	_, url := serve(t, partd.NewDict(), nil)
	c := dial(t, url, nil)
	must(t, c.Append(ctx, entry("k", "v")))
	c.mu.Lock()
	s := &stuckConn{Conn: c.link.nc, closed: make(chan struct{})}
	s.full.Store(true)
	c.link.nc = s // nobody else writes now
	c.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- c.Close() }()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(10 * closeTimeout):
		t.Error("Close still waits for a server that does not read, after ten times closeTimeout")
		must(t, s.Close())
		must(t, <-done)
	}
}

// TestReconnectingHasJitter checks that clients of a server do not all reconnect at the same time.
func TestReconnectingHasJitter(t *testing.T) {
	c := &Client{opts: ClientOptions{RetryFor: time.Hour}, backoff: lastBackoff}
	waits := map[time.Duration]bool{}
	for range 100 {
		wait, err := c.nextPause()
		must(t, err)
		if waits[wait] = true; wait < lastBackoff/2 || wait > lastBackoff {
			t.Errorf("nextPause = %v, want %v to %v", wait, lastBackoff/2, lastBackoff)
		}
	}
	if len(waits) < 50 {
		t.Errorf("100 calls of nextPause returned %d different durations, want at least 50", len(waits))
	}
}

// TestListsWithLittleMemory lists more than a page with the minimum memory of partd-server, half of 16 MiB.
func TestListsWithLittleMemory(t *testing.T) {
	ctx := t.Context()
	for _, name := range []string{"dict", "log"} { // a File store would take long to create files for 4,000 keys
		t.Run(name, func(t *testing.T) {
			store := stores[name](t)
			value := make([]byte, 2500)
			var entries []partd.Entry
			for i := range 4000 {
				entries = append(entries, partd.Entry{Key: fmt.Sprintf("%01000d", i), Value: value})
			}
			must(t, store.Append(ctx, entries...))
			_, url := serve(t, store, &ServerOptions{Memory: 8 << 20})
			c := dial(t, url, nil)
			keys, bytes := 0, 0
			for _, err := range c.Keys(ctx) {
				must(t, err)
				keys++
			}
			for chunk, err := range c.Scan(ctx) {
				must(t, err)
				bytes += len(chunk.Data)
			}
			if keys != len(entries) || bytes != len(entries)*len(value) {
				t.Errorf("listed %d keys and scanned %d bytes, want %d and %d", keys, bytes, len(entries), len(entries)*len(value))
			}
		})
	}
}
