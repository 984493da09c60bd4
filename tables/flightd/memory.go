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

// budget limits the memory of messages and of their decompressed rows. gRPC reports a
// message only when it is complete, but gets its buffers from a pool. budget is this
// pool, so it counts buffers as they arrive.
type budget struct {
	mem.BufferPool
	limit int64
	used  atomic.Int64 // bytes of buffers and of messages that are being processed
	asked atomic.Int64 // the part of used for requests without rows, which may use a quarter

	pieces sync.Map // by address

	mu       sync.Mutex
	calls    []*watchedStream // in the order of their first messages
	rowsUsed int64            // the part of used for decompressed rows
	waiting  []*putRows       // in the order of arrival
	patience time.Duration
}

// countedBuffer is a buffer from the pool. If its stream was canceled, gRPC does not return it;
// then a cleanup subtracts it when it is garbage collected.
type countedBuffer struct {
	size    int64
	cleanup runtime.Cleanup
}

// Get implements mem.BufferPool.
func (b *budget) Get(n int) *[]byte {
	buffer := b.BufferPool.Get(n)
	key, p := address(buffer), &countedBuffer{size: int64(cap(*buffer))}
	p.cleanup = runtime.AddCleanup(buffer, func(p *countedBuffer) {
		if b.pieces.CompareAndDelete(key, p) {
			b.used.Add(-p.size)
		}
	}, p)
	if lost, was := b.pieces.Swap(key, p); was { // a lost buffer had the same address, and its cleanup has not run
		b.used.Add(-lost.(*countedBuffer).size)
	}
	b.add(p.size)
	return buffer
}

// Put implements mem.BufferPool.
func (b *budget) Put(buffer *[]byte) {
	if p, ok := b.pieces.LoadAndDelete(address(buffer)); ok {
		p.(*countedBuffer).cleanup.Stop()
		b.used.Add(-p.(*countedBuffer).size)
	}
	b.BufferPool.Put(buffer)
}

// address returns a key for a buffer that does not keep it alive.
func address(buffer *[]byte) uintptr { return uintptr(unsafe.Pointer(buffer)) }

// add counts n bytes. When the total crosses the limit, and again at each further sixteenth
// of the limit, add cancels a call: the newest one of the host with the most message bytes.
func (b *budget) add(n int64) {
	now := b.used.Add(n)
	if now <= b.limit || (now-b.limit)/(b.limit/16+1) == (now-n-b.limit)/(b.limit/16+1) && now-n > b.limit {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if v := newestOfHeaviestHost(b.calls, func(w *watchedStream) int64 { return w.held + w.expects }); v != nil {
		b.end(v)
	}
}

// end cancels a call. mu must be held.
func (b *budget) end(v *watchedStream) {
	v.cancel(errMemory)
	b.calls = slices.DeleteFunc(b.calls, func(o *watchedStream) bool { return o == v })
}

// expect records the size of the arriving message. Its buffers are counted as they
// arrive.
func (b *budget) expect(w *watchedStream, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.expects = n
	if !w.joined {
		w.joined = true
		b.calls = append(b.calls, w)
	}
}

// admit delays a put's next message until half of the memory is free.
func (b *budget) admit(w *watchedStream) error {
	b.hold(w, 0)
	b.expect(w, 0)
	for waited := 0; b.used.Load()-b.asked.Load() > b.limit/2; waited++ {
		if waited%100 == 10 {
			runtime.GC() // lost buffers may occupy the memory
		}
		select {
		case <-w.ctx.Done():
			return context.Cause(w.ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// hold counts the message that a call is processing, until its next message.
func (b *budget) hold(w *watchedStream, n int64) {
	b.mu.Lock()
	was := w.held
	w.held = n
	b.mu.Unlock()
	b.used.Add(-was)
	b.add(n)
}

// ask counts a request without rows until its call ends. Such calls may wait long for
// slots, so they have their own part of the memory. Puts never wait for it.
func (b *budget) ask(w *watchedStream, n int64) {
	b.mu.Lock()
	w.asked = n
	if b.asked.Add(n) > b.limit/4 {
		if v := newestOfHeaviestHost(b.calls, func(w *watchedStream) int64 { return cmp.Or(w.asked, -1) }); v != nil && v.asked < b.asked.Load() {
			b.end(v)
		}
	}
	b.mu.Unlock()
	b.hold(w, n)
}

// leave removes a call from the budget.
func (b *budget) leave(w *watchedStream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used.Add(-w.held)
	b.asked.Add(-w.asked)
	w.held, w.asked = 0, 0
	b.calls = slices.DeleteFunc(b.calls, func(o *watchedStream) bool { return o == w })
}

// tidy collects garbage while the server is idle, if that returns much memory to the
// system or if buffers were lost with their streams. Lost buffers count until they are
// collected, and Go itself collects only every two minutes in an idle server.
func (s *Server) tidy(ctx context.Context) {
	const (
		look = 2 * time.Second
		kept = 64 << 20  // bytes in addition to those in use
		lost = 512 << 10 // bytes of buffers; without calls there are none
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

// idle reports whether no Flight call is running and nothing reads or writes rows.
func (s *Server) idle() bool {
	queries, _ := s.queries.counts()
	puts, _ := s.puts.counts()
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	return s.conns.calls == 0 && queries+puts == 0
}

// putRows allocates the decompressed batches of one put. All puts share a quarter of the
// budget. The rest is for messages, which never wait for rows. If memory is not available
// in time, putRows panics; Arrow's readers return the panic as an error.
type putRows struct {
	all   *budget
	ctx   context.Context // of the call, because an Allocator's methods have none
	used  int64           // guarded by the budget's mu
	ended bool
	mu    sync.Mutex // held while it waits
}

func (b *budget) rows(ctx context.Context) *putRows { return &putRows{all: b, ctx: ctx} }

// Allocate implements memory.Allocator.
func (r *putRows) Allocate(n int) []byte {
	r.take(int64(n))
	return memory.DefaultAllocator.Allocate(n)
}

// Reallocate implements memory.Allocator. Both buffers count during the copy.
func (r *putRows) Reallocate(n int, was []byte) []byte {
	r.take(int64(n))
	defer r.give(int64(len(was)))
	return memory.DefaultAllocator.Reallocate(n, was)
}

// Free implements memory.Allocator.
func (r *putRows) Free(was []byte) {
	r.give(int64(len(was)))
	memory.DefaultAllocator.Free(was)
}

// limit returns the limit for one put, in bytes.
func (r *putRows) limit() int64 { return r.all.limit / 4 }

// take waits for n bytes, in the order of arrival.
func (r *putRows) take(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, limit := r.all, r.limit()
	b.mu.Lock()
	used := r.used
	b.waiting = append(b.waiting, r)
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.waiting = slices.DeleteFunc(b.waiting, func(o *putRows) bool { return o == r })
	}()
	if used+n > limit {
		panic(fmt.Errorf("the batches need %d more bytes when decompressed, which exceeds the limit of %d: send smaller ones: %w", n, limit, partd.ErrTooLarge))
	}
	for late := time.Now().Add(b.patience); !r.tryTake(n, limit); {
		if time.Now().After(late) {
			if c, ok := r.ctx.Value(callKey{}).(*call); ok {
				c.cancel(errMemory) // sets the code of the call
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

func (r *putRows) tryTake(n, limit int64) bool {
	b := r.all
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting[0] != r || b.rowsUsed+n > limit || b.used.Load()+n > b.limit {
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

// end returns all bytes. What the store keeps counts in the store's own budget.
func (r *putRows) end() {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	r.change(-r.used)
	r.ended = true
}
