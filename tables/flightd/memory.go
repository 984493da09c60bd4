package flightd

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/mem"

	"github.com/go-partd/partd"
)

// budget bounds the memory of messages, and of what is decompressed of them. gRPC takes a message whole, and tells of
// it once it is there; but it takes the pieces from a pool, which is this one, so
// that they are counted as they arrive.
type budget struct {
	mem.BufferPool
	limit int64
	used  atomic.Int64 // bytes of pieces and of messages that are being worked on
	asked atomic.Int64 // of used, what requests take that are no rows, which have a quarter

	pieces sync.Map // by their addresses

	mu       sync.Mutex
	calls    []*watched // in the order of their first messages
	rowsUsed int64      // of used, what was decompressed
	waiting  []*putRows // in the order of their coming
	patience time.Duration
}

// piece is what the pool has handed out. Those of a stream that was cut do not
// come back: they are the garbage collector's, which says so.
type piece struct {
	size    int64
	cleanup runtime.Cleanup
}

// Get is mem.BufferPool's.
func (b *budget) Get(n int) *[]byte {
	buffer := b.BufferPool.Get(n)
	key, p := address(buffer), &piece{size: int64(cap(*buffer))}
	p.cleanup = runtime.AddCleanup(buffer, func(p *piece) {
		if b.pieces.CompareAndDelete(key, p) {
			b.used.Add(-p.size)
		}
	}, p)
	if lost, was := b.pieces.Swap(key, p); was { // at its address, before its cleanup ran
		b.used.Add(-lost.(*piece).size)
	}
	b.add(p.size)
	return buffer
}

// Put is mem.BufferPool's.
func (b *budget) Put(buffer *[]byte) {
	if p, ok := b.pieces.LoadAndDelete(address(buffer)); ok {
		p.(*piece).cleanup.Stop()
		b.used.Add(-p.(*piece).size)
	}
	b.BufferPool.Put(buffer)
}

// address is a key that keeps nothing from being collected.
func address(buffer *[]byte) uintptr { return uintptr(unsafe.Pointer(buffer)) }

// add gives up a call where the limit is crossed, and again for each sixteenth part
// of the limit above it: the newest of the host whose messages take most.
func (b *budget) add(n int64) {
	now := b.used.Add(n)
	if now <= b.limit || (now-b.limit)/(b.limit/16+1) == (now-n-b.limit)/(b.limit/16+1) && now-n > b.limit {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if v := newestOfMost(b.calls, func(w *watched) int64 { return w.held + w.expects }); v != nil {
		b.end(v)
	}
}

// end gives a call up. It wants mu.
func (b *budget) end(v *watched) {
	v.cancel(errMemory)
	b.calls = slices.DeleteFunc(b.calls, func(o *watched) bool { return o == v })
}

// expect notes how large the message is that arrives, whose pieces are counted as
// they come.
func (b *budget) expect(w *watched, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.expects = n
	if !w.joined {
		w.joined = true
		b.calls = append(b.calls, w)
	}
}

// admit waits until half of the memory is free for the next message of a put.
func (b *budget) admit(w *watched) error {
	b.hold(w, 0)
	b.expect(w, 0)
	for waited := 0; b.used.Load()-b.asked.Load() > b.limit/2; waited++ {
		if waited%100 == 10 {
			runtime.GC() // pieces that were lost may be all that there is
		}
		select {
		case <-w.ctx.Done():
			return context.Cause(w.ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// hold counts the message that a call works on, until its next.
func (b *budget) hold(w *watched, n int64) {
	b.mu.Lock()
	was := w.held
	w.held = n
	b.mu.Unlock()
	b.used.Add(-was)
	b.add(n)
}

// ask counts a request that is no rows, until its call ends. They wait for slots as
// long as they like, and so have a part of the memory that no put waits for.
func (b *budget) ask(w *watched, n int64) {
	b.mu.Lock()
	w.asked = n
	if b.asked.Add(n) > b.limit/4 {
		if v := newestOfMost(b.calls, func(w *watched) int64 { return cmp.Or(w.asked, -1) }); v != nil && v.asked < b.asked.Load() {
			b.end(v)
		}
	}
	b.mu.Unlock()
	b.hold(w, n)
}

// leave ends a call's part.
func (b *budget) leave(w *watched) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used.Add(-w.held)
	b.asked.Add(-w.asked)
	w.held, w.asked = 0, 0
	b.calls = slices.DeleteFunc(b.calls, func(o *watched) bool { return o == w })
}

// tidy collects while nothing is under way, where there is much to give back to the
// system, or where pieces of messages were lost with their streams, which count until
// then: Go alone does so every two minutes in an idle server.
func (s *Server) tidy(ctx context.Context) {
	const (
		look = 2 * time.Second
		kept = 64 << 20  // bytes beside what is in use
		lost = 512 << 10 // bytes of pieces; with no call there are none
	)
	tick := time.NewTicker(look)
	defer tick.Stop()
	size := []runtimemetrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	for least, again := int64(0), false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		runtimemetrics.Read(size)
		if now := int64(size[0].Value.Uint64() - size[1].Value.Uint64()); now < least+kept && s.memory.used.Load() < lost && !again || !s.idle() {
			continue
		}
		again = !again
		debug.FreeOSMemory()
		runtimemetrics.Read(size)
		least = int64(size[0].Value.Uint64() - size[1].Value.Uint64())
	}
}

// idle reports whether no call of Flight is under way, nor anything that reads or
// writes rows.
func (s *Server) idle() bool {
	queries, _ := s.queries.counts()
	puts, _ := s.puts.counts()
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	return s.conns.calls == 0 && queries+puts == 0
}

// putRows allocates what the batches of one put are decompressed to. All puts
// share a quarter of the budget: the rest is for messages, which nobody can make
// wait for rows. Where there is none for too long it panics, which Arrow's readers
// return as an error.
type putRows struct {
	all   *budget
	ctx   context.Context // of the call; an Allocator's methods have none
	used  int64           // under the budget's mu
	ended bool
	mu    sync.Mutex // is held while it waits
}

func (b *budget) rows(ctx context.Context) *putRows { return &putRows{all: b, ctx: ctx} }

// Allocate is memory.Allocator's, as are the two below.
func (r *putRows) Allocate(n int) []byte {
	r.take(int64(n))
	return memory.DefaultAllocator.Allocate(n)
}

// Reallocate holds both while it copies.
func (r *putRows) Reallocate(n int, was []byte) []byte {
	r.take(int64(n))
	defer r.give(int64(len(was)))
	return memory.DefaultAllocator.Reallocate(n, was)
}

// Free gives back.
func (r *putRows) Free(was []byte) {
	r.give(int64(len(was)))
	memory.DefaultAllocator.Free(was)
}

// most is how many bytes one put may have.
func (r *putRows) most() int64 { return r.all.limit / 4 }

// take waits for its turn and for n bytes.
func (r *putRows) take(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, most := r.all, r.most()
	b.mu.Lock()
	used := r.used
	b.waiting = append(b.waiting, r)
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.waiting = slices.DeleteFunc(b.waiting, func(o *putRows) bool { return o == r })
	}()
	if used+n > most {
		panic(fmt.Errorf("the batches take %d bytes more once they are decompressed, over the limit of %d: send smaller ones: %w", n, most, partd.ErrTooLarge))
	}
	for late := time.Now().Add(b.patience); !r.tryTake(n, most); {
		if time.Now().After(late) {
			if c, ok := r.ctx.Value(callKey{}).(*call); ok {
				c.cancel(errMemory) // which gives the call its code
			}
			panic(errMemory)
		}
		select {
		case <-r.ctx.Done():
			panic(context.Cause(r.ctx))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (r *putRows) tryTake(n, most int64) bool {
	b := r.all
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting[0] != r || b.rowsUsed+n > most || b.used.Load()+n > b.limit {
		return false
	}
	r.change(n)
	return true
}

func (r *putRows) give(n int64) {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	if !r.ended {
		r.change(-n)
	}
}

func (r *putRows) change(n int64) {
	r.used += n
	r.all.rowsUsed += n
	r.all.used.Add(n)
}

// end gives back what is left: what the store keeps of it is in its own bound.
func (r *putRows) end() {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	r.change(-r.used)
	r.ended = true
}
