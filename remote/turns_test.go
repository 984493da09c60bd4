package remote

import (
	"context"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
)

func newQuotas(limit int64) *quotas {
	l := new(quotas)
	l.init(&ServerOptions{Memory: limit, MaxConnections: 10, MaxHandles: 10})
	l.queue.reap = func() {}
	return l
}

// TestTurnsOfPeers lets a message of one peer begin between few of another's, which
// has hundreds of connections with something to do.
func TestTurnsOfPeers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	l := newQuotas(1 << 20)
	flooder, honest := l.enter("flooder"), l.enter("honest")
	var begun atomic.Int64
	var over atomic.Bool
	var wg sync.WaitGroup
	for range 500 {
		wg.Go(func() {
			for !over.Load() {
				flooder.takeTurn()
				begun.Add(1)
			}
		})
	}
	for begun.Load() < 5000 { // all of them are under way
		runtime.Gosched()
	}
	const messages = 500
	before := begun.Load()
	for range messages {
		honest.takeTurn()
		runtime.Gosched() // as who waits for the next message
	}
	between := (begun.Load() - before) / messages
	over.Store(true)
	wg.Wait()
	if between > 10*peerMessages {
		t.Errorf("between two messages of a peer %d of another's began", between)
	}
}

// TestRoomForWhoHasLittle gives memory at once to a peer that has none, though
// another takes all that it gets, and nobody makes room.
func TestRoomForWhoHasLittle(t *testing.T) {
	l := newQuotas(64 << 20)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	greedy := l.enter("greedy")
	for range 100 {
		a := l.open(greedy, time.Minute, func() {})
		go func() { _ = a.take(ctx, 1<<20, admission) }() // most of them until the end
	}
	for {
		l.mu.Lock()
		all := l.used[memory]>>20 + int64(l.queue.waiting)
		l.mu.Unlock()
		if all == 100 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	soon, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	must(t, l.open(l.enter("honest"), time.Minute, func() {}).take(soon, 6<<20, admission))
}

// TestAnswersOfOneConnectionQueueOnce lets a connection that has much to answer wait
// for its memory once at a time: another of the same peer comes next.
func TestAnswersOfOneConnectionQueueOnce(t *testing.T) {
	l := newQuotas(8 << 20)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := l.enter("peer")
	open := func() *account { return l.open(s, time.Minute, func() {}) }
	held := open()
	must(t, held.take(ctx, 6<<20, admission))
	wait := func(a *account, n int) (got chan struct{}) {
		got = make(chan struct{}, n)
		for range n {
			go func() {
				room := &allowance{account: a, ctx: ctx, most: 6 << 20}
				if room.hold(1<<20) == nil {
					got <- struct{}{}
				}
			}()
		}
		return got
	}
	waiting := func(n int) {
		for {
			l.mu.Lock()
			is := l.queue.waiting
			l.mu.Unlock()
			if is >= n {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	many := wait(open(), 8)
	waiting(1)
	time.Sleep(50 * time.Millisecond) // the others would come
	one := wait(open(), 1)
	waiting(2)
	held.give(6 << 20)
	<-many
	l.add(s, memory, -6<<20) // the first is done
	select {
	case <-one:
	case <-many:
		t.Error("a connection that has got its memory gets more, and another of its peer waits")
	}
}

// TestAnswerBuffersAreCharged lets no answer have a large buffer that the last one
// has left without its memory, also while it waits for that.
func TestAnswerBuffersAreCharged(t *testing.T) {
	s, _ := serve(t, partd.NewDict(), nil)
	nc, peer := net.Pipe()
	defer peer.Close()
	c := newConn(s, nc, 1)
	defer c.discard()
	large := 0
	for i := range 200 {
		s.quotas.inUse.Store(int64((i+1)%2) * s.opts.Memory)
		_ = newBuilder() // or the next answer would have this one
		left := builder{buf: make([]byte, 0, 1<<20)}
		left.recycle()
		a := c.newAnswer()
		if cap(a.buf) > free {
			large++
			if s.memoryUsed() < int64(cap(a.buf)-free) {
				t.Fatalf("an answer has %d bytes, and %d of the budget", cap(a.buf), s.memoryUsed())
			}
		}
		if i%2 == 0 && cap(a.buf) > free {
			t.Fatalf("where memory is short an answer that needs nothing yet has %d bytes", cap(a.buf))
		}
		a.drop()
	}
	if large == 0 {
		t.Error("no answer had a large buffer")
	}
}
