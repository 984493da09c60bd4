package remote

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/zmtp"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestLargeMessagesTogether concurrently sends more large messages than fit in memory, some
// with one frame and some with many. Each must wait for its turn, and all must arrive.
func TestLargeMessagesTogether(t *testing.T) {
	log := newWarnings()
	store := partd.NewDict()
	_, url := serve(t, store, &ServerOptions{Memory: 16 << 20, MaxMessage: 8 << 20, StallTimeout: 20 * time.Second, Logger: slog.New(log)})
	value := make([]byte, 6<<20)
	frames := []string{"append"}
	for i := range 60 {
		frames = append(frames, fmt.Sprint("p", i), string(value[:100<<10]))
	}
	multiFrame := message(frames...)
	var wg sync.WaitGroup
	requireWithin(t, time.Minute, "all messages", func() error {
		for i := range 8 {
			wg.Go(func() {
				c := dial(t, url, nil)
				for range 3 {
					must.Check(t, c.Append(t.Context(), partd.Entry{Key: fmt.Sprint("k", i), Value: value}))
				}
			})
			p := openPeer(t, url)
			wg.Go(func() {
				for range 3 {
					if _, err := p.Write(multiFrame); !must.Check(t, err) {
						return
					}
					p.wantBytes(acked)
				}
			})
		}
		wg.Wait()
		return nil
	})
	if st := must.Get(store.Stat(t.Context()))(t); st.Bytes != 8*3*(6<<20+60*100<<10) {
		t.Errorf("the store has %d bytes, want %d", st.Bytes, 8*3*(6<<20+60*100<<10))
	}
	if n := log.count.Load(); n > 0 {
		t.Errorf("the server logged %d warnings, want none: connections may have been cut", n)
	}
}

// sendUnfinishedMessages fills a server's memory with messages that never end.
func sendUnfinishedMessages(t *testing.T, s *Server, url string, size int) {
	singleFrame := joinBytes(longHeader(0, uint64(size)), make([]byte, 100<<10))
	multiFrame := joinBytes(zmtp.AppendFrame(nil, []byte("append"), true), zmtp.AppendFrame(nil, []byte("k"), true), singleFrame)
	for i := range 2 * s.opts.Memory / int64(size) {
		p := openPeer(t, url)
		go p.Write([][]byte{singleFrame, singleFrame, singleFrame, multiFrame}[i%4]) // fails if the server closes the connection, which it may do
	}
	must.Eventually(t, 10*time.Second, "unfinished messages hold less than half of the memory", func() bool {
		return s.memoryUsed() >= s.opts.Memory/2
	})
}

// TestUnfinishedMessages checks that clients are served while one peer holds all memory with
// unfinished messages: clients of another peer soon, and clients from the same address eventually.
// TestTurnBehindUnfinishedMessages checks how long the latter wait.
func TestUnfinishedMessages(t *testing.T) {
	t.Parallel()
	s, url := serve(t, partd.NewDict(), &ServerOptions{Memory: 32 << 20, MaxMessage: 4 << 20})
	honest, sameAddress := dialFrom(t, url, "127.0.0.2"), dial(t, url, nil)
	large := partd.Entry{Key: "k", Value: make([]byte, 3<<20)}
	for range 2 {
		sendUnfinishedMessages(t, s, url, 3<<20)
		requireWithin(t, 5*time.Second, "an append by another peer", func() error { return honest.Append(ctx, large) })
		requireWithin(t, 5*time.Second, "a get by another peer", func() error { _, err := honest.Get(ctx, "k"); return err })
		must.Do(t, sameAddress.Append(ctx, large))
	}
}

// TestTurnBehindUnfinishedMessages checks how long a connection waits for memory behind connections
// of its peer whose messages never end. As many as fit in memory hold it until they have been idle
// for slowTimeout. They are then evicted together, and the next ones in the queue get the memory.
func TestTurnBehindUnfinishedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, stuck = 3 << 20, 21
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		q := newQuotas(32 << 20)
		sender := q.acquire("peer")
		for round := range 3 {
			for range stuck {
				var a *account
				evicted := make(chan struct{})
				a = q.newAccount(sender, time.Minute, func() { close(evicted) })
				go func() {
					if a.take(ctx, size, admission) != nil {
						return // the test has ended
					}
					select {
					case <-evicted:
					case <-ctx.Done():
					}
					a.give(size)
					a.close()
				}()
			}
			synctest.Wait()
			q.mu.Lock()
			holders, waiting := q.used[memory]/size, q.queue.waiting
			q.mu.Unlock()
			begin := time.Now()
			honest := q.newAccount(sender, time.Minute, func() { t.Error("the honest connection was evicted") })
			must.Do(t, honest.take(t.Context(), size, admission))
			turns := time.Duration(waiting)/time.Duration(holders) + 1
			if waited, limit := time.Since(begin), turns*(slowTimeout+3*tickInterval); waited > limit {
				t.Errorf("round %d: a request behind %d others of its peer, of which %d fit, waited %v, want at most %v", round, waiting, holders, waited, limit)
			}
			honest.give(size)
			honest.close()
		}
	})
}
