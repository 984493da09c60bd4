package remote

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

func newQuotas(limit int64) *budget {
	q := new(budget)
	q.init(&ServerOptions{Memory: limit, MaxConnections: 10, MaxHandles: 10})
	q.reap = func() {}
	return q
}

// TestTurnsOfPeers checks that between two messages of one peer, the server handles only a few
// messages of another peer with hundreds of busy connections.
func TestTurnsOfPeers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	q := newQuotas(1 << 20)
	flooder, honest := q.acquire("flooder"), q.acquire("honest")
	var begun atomic.Int64
	var finished atomic.Bool
	var wg sync.WaitGroup
	for range 500 {
		wg.Go(func() {
			for !finished.Load() {
				flooder.takeTurn()
				begun.Add(1)
			}
		})
	}
	for begun.Load() < 5000 { // wait until all connections are busy
		runtime.Gosched()
	}
	const messages = 500
	before := begun.Load()
	for range messages {
		honest.takeTurn()
		runtime.Gosched() // like a goroutine that waits for the next message
	}
	between := (begun.Load() - before) / messages
	finished.Store(true)
	wg.Wait()
	if between > 10*messagesPerTurn {
		t.Errorf("between two messages of one peer, %d messages of another peer began, want at most %d", between, 10*messagesPerTurn)
	}
}

// TestMemoryForSmallPeer checks that a peer that holds no memory is served promptly, even while
// another peer takes all it can.
func TestMemoryForSmallPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuotas(64 << 20)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		greedy := q.acquire("greedy")
		for range 100 {
			a := q.newAccount(greedy, time.Minute, func() {})
			go func() { _ = a.take(ctx, 1<<20, admission) }() // most of these wait until the test ends
		}
		synctest.Wait()
		shortCtx, stop := context.WithTimeout(t.Context(), 2*time.Second)
		defer stop()
		must.Do(t, q.newAccount(q.acquire("honest"), time.Minute, func() {}).take(shortCtx, 6<<20, admission))
	})
}

// TestOneAnswerPerConnectionWaits checks that only one answer of a connection waits for memory at
// a time, so that the next free memory goes to another connection of the same peer.
func TestOneAnswerPerConnectionWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuotas(8 << 20)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		sender := q.acquire("peer")
		open := func() *account { return q.newAccount(sender, time.Minute, func() {}) }
		holder := open()
		must.Do(t, holder.take(ctx, 6<<20, admission))
		startAnswers := func(a *account, n int) (granted chan struct{}) {
			granted = make(chan struct{}, n)
			for range n {
				go func() {
					share := &allowance{account: a, ctx: ctx, minFirstRaise: 6 << 20}
					if share.raise(1<<20) == nil {
						granted <- struct{}{}
					}
				}()
			}
			return granted
		}
		firstGranted := startAnswers(open(), 8)
		synctest.Wait() // if the limit did not work, further answers of this connection would be queued now
		secondGranted := startAnswers(open(), 1)
		synctest.Wait()
		holder.give(6 << 20)
		<-firstGranted
		q.mu.Lock()
		q.addMemory(sender, -6<<20) // the first answer is finished
		q.mu.Unlock()
		select {
		case <-secondGranted:
		case <-firstGranted:
			t.Error("a connection got memory again while another connection of its peer waited")
		}
	})
}
