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

// TestTurnsOfPeers checks that only a few messages of a peer with hundreds of busy
// connections are handled between two messages of another peer.
func TestTurnsOfPeers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	l := newQuotas(1 << 20)
	flooder, honest := l.enter("flooder"), l.enter("honest")
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
	for begun.Load() < 5000 { // until all are busy
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
	if between > 10*peerMessages {
		t.Errorf("%d messages of another peer began between two messages of one", between)
	}
}

// TestMemoryForSmallPeer checks that a peer without memory gets some at once although
// another peer takes all that it can get, and that no connection is closed.
func TestMemoryForSmallPeer(t *testing.T) {
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
		total := l.used[memory]>>20 + int64(l.queue.waiting)
		l.mu.Unlock()
		if total == 100 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	soon, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	must(t, l.open(l.enter("honest"), time.Minute, func() {}).take(soon, 6<<20, admission))
}

// TestAnswersOfOneConnectionQueueOnce checks that a connection with many answers waits
// for memory with only one of them at a time, so that another connection of the same peer
// comes next.
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
				share := &allowance{account: a, ctx: ctx, initial: 6 << 20}
				if share.raise(1<<20) == nil {
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
	time.Sleep(50 * time.Millisecond) // the others would get memory now
	one := wait(open(), 1)
	waiting(2)
	held.give(6 << 20)
	<-many
	l.add(s, memory, -6<<20) // the first is done
	select {
	case <-one:
	case <-many:
		t.Error("a connection gets memory again while another of its peer waits")
	}
}

// TestAnswerBuffersAreCharged checks that an answer does not reuse the large buffer of
// the previous answer without charging it, even while it waits for memory.
func TestAnswerBuffersAreCharged(t *testing.T) {
	s, _ := serve(t, partd.NewDict(), nil)
	nc, peer := net.Pipe()
	defer peer.Close()
	c := newConn(s, nc, 1)
	defer c.discard()
	large := 0
	for i := range 200 {
		s.quotas.inUse.Store(int64((i+1)%2) * s.opts.Memory)
		_ = newBuilder() // otherwise the next answer would get this buffer
		unused := builder{buf: make([]byte, 0, 1<<20)}
		unused.recycle()
		a := c.newAnswer()
		if cap(a.buf) > free {
			large++
			if s.memoryUsed() < int64(cap(a.buf)-free) {
				t.Fatalf("an answer has a buffer of %d bytes, with %d charged", cap(a.buf), s.memoryUsed())
			}
		}
		if i%2 == 0 && cap(a.buf) > free {
			t.Fatalf("with little memory, an empty answer has a buffer of %d bytes", cap(a.buf))
		}
		a.drop()
	}
	if large == 0 {
		t.Error("no answer reused a large buffer")
	}
}
