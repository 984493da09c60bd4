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
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// budget limits the memory of messages and of their decompressed rows. It is gRPC's buffer
// pool, so it counts a message's buffers before the message is complete.
type budget struct {
	mem.BufferPool
	*serving.Memory // counts buffers, messages that are being processed, decompressed rows, and HTTP requests
	// the part of Memory's bytes that belongs to requests without rows; limited to a quarter of Limit
	requestBytes atomic.Int64

	buffers sync.Map // *countedBuffer by address

	mu       sync.Mutex
	calls    []*call         // calls that have received data, in order of their first messages
	rowsUsed int64           // the part of Memory's bytes that belongs to decompressed rows
	waiting  []*rowAllocator // puts waiting for memory, in order of arrival
	patience time.Duration   // how long a put may wait for memory for its rows
}

// countedBuffer describes a buffer from the pool. If the buffer's stream is canceled, gRPC does not return the buffer
// to the pool: the buffer is lost. cleanup subtracts the size of a lost buffer when the buffer is garbage-collected.
type countedBuffer struct {
	size    int64
	cleanup runtime.Cleanup
}

// Get implements mem.BufferPool.
func (b *budget) Get(n int) *[]byte {
	buffer := b.BufferPool.Get(n)
	key, counted := address(buffer), &countedBuffer{size: int64(cap(*buffer))}
	counted.cleanup = runtime.AddCleanup(buffer, func(counted *countedBuffer) {
		if b.buffers.CompareAndDelete(key, counted) {
			b.Add(-counted.size)
		}
	}, counted)
	// if the key exists, it is from a lost buffer whose cleanup has not run yet
	if lostBuffer, exists := b.buffers.Swap(key, counted); exists {
		b.Add(-lostBuffer.(*countedBuffer).size)
	}
	b.Add(counted.size)
	return buffer
}

// Put implements mem.BufferPool.
func (b *budget) Put(buffer *[]byte) {
	if counted, ok := b.buffers.LoadAndDelete(address(buffer)); ok {
		counted.(*countedBuffer).cleanup.Stop()
		b.Add(-counted.(*countedBuffer).size)
	}
	b.BufferPool.Put(buffer)
}

// address returns the buffer's address as a key. Unlike a pointer, the key does not keep the buffer alive.
func address(buffer *[]byte) uintptr { return uintptr(unsafe.Pointer(buffer)) }

// cancelHeaviest cancels the newest call of the host with the most message bytes.
func (b *budget) cancelHeaviest() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if v := newestOfHeaviestHost(b.calls, func(c *call) int64 { return c.processing + c.arriving }); v != nil {
		b.cancelCall(v)
	}
}

// cancelCall cancels a call and removes it from b.calls. mu must be held.
func (b *budget) cancelCall(c *call) {
	c.cancel(serving.ErrMemory)
	b.calls = slices.DeleteFunc(b.calls, func(o *call) bool { return o == c })
}

// expect records the size of the message that is arriving on c, so that cancelHeaviest can choose the call to cancel.
// It does not add the size to the total, because Get adds each buffer as it arrives.
func (b *budget) expect(c *call, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.arriving = n
	if !c.wasListed {
		c.wasListed = true
		b.calls = append(b.calls, c)
	}
}

// admit delays a put's next message until half of the memory is free.
func (b *budget) admit(c *call) error {
	b.setProcessing(c, 0)
	b.expect(c, 0)
	for waits := 0; b.Used()-b.requestBytes.Load() > b.Limit/2; waits++ {
		if waits%100 == 10 { // after 0.1 s, and then every second
			runtime.GC() // so that lost buffers (see countedBuffer) no longer count
		}
		if err := canceled.Wait(c.ctx, time.After(10*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// setProcessing counts n bytes for the message that a call is processing, in place of the bytes for the call's previous
// message.
func (b *budget) setProcessing(c *call, n int64) {
	b.mu.Lock()
	previous := c.processing
	c.processing = n
	b.mu.Unlock()
	b.Add(-previous)
	b.Add(n)
}

// addRequest counts n bytes for a request without rows until its call ends, because the call may wait a long time
// before it runs. All such requests share a quarter of the memory; a single request may exceed it. admit ignores these
// bytes, so that puts do not wait for such requests.
func (b *budget) addRequest(c *call, n int64) {
	b.mu.Lock()
	c.requestBytes = n
	if total := b.requestBytes.Add(n); total > b.Limit/4 {
		victim := newestOfHeaviestHost(b.calls, func(c *call) int64 { return cmp.Or(c.requestBytes, -1) })
		if victim != nil && victim.requestBytes < total { // otherwise, it is the only such request
			b.cancelCall(victim)
		}
	}
	b.mu.Unlock()
	b.setProcessing(c, n)
}

func (b *budget) remove(c *call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Add(-c.processing)
	b.requestBytes.Add(-c.requestBytes)
	c.processing, c.requestBytes = 0, 0
	b.calls = slices.DeleteFunc(b.calls, func(o *call) bool { return o == c })
}

// tidy returns memory to the operating system while the server is idle. It collects garbage if memory has grown a lot
// since the last collection, or if buffers are lost (see countedBuffer). Otherwise, lost buffers would count towards
// the limit for minutes, because Go itself collects an idle server's garbage only every two minutes. tidy collects
// twice, because a sync.Pool keeps its values during the first collection.
func (b *budget) tidy(ctx context.Context, core *serving.Core) {
	const (
		interval = 2 * time.Second
		minFreed = 64 << 20 // memory growth, in bytes, that is worth collecting
		// size of lost buffers, in bytes, that is worth collecting; an idle server has no other counted buffers
		minLost = 512 << 10
	)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	samples := []runtimemetrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	for baseline, mustRepeat := int64(0), false; canceled.Wait(ctx, tick.C) == nil; {
		runtimemetrics.Read(samples)
		if size := int64(samples[0].Value.Uint64() - samples[1].Value.Uint64()); size < baseline+minFreed && b.Used() < minLost && !mustRepeat || !isIdle(core) {
			continue
		}
		mustRepeat = !mustRepeat
		debug.FreeOSMemory()
		runtimemetrics.Read(samples)
		baseline = int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
	}
}

// isIdle reports whether the server runs no Flight calls, queries or puts.
func isIdle(core *serving.Core) bool {
	queries, _ := core.Queries.Counts()
	puts, _ := core.Puts.Counts()
	return core.Conns.Calls() == 0 && queries+puts == 0
}

// rowAllocator allocates memory for one put's decompressed batches. All puts share a quarter of the budget. The other
// three quarters remain for messages, so that rows can never block all messages. If memory does not become available in
// time, the allocator panics; Arrow's readers return the panic as an error.
type rowAllocator struct {
	budget   *budget
	call     *call
	used     int64 // guarded by the budget's mu
	hasEnded bool
	mu       sync.Mutex // held while reserve waits for memory
}

func (b *budget) newRowAllocator(c *call) *rowAllocator { return &rowAllocator{budget: b, call: c} }

// Allocate implements memory.Allocator.
func (r *rowAllocator) Allocate(n int) []byte {
	r.reserve(int64(n))
	return memory.DefaultAllocator.Allocate(n)
}

// Reallocate implements memory.Allocator. Both buffers count during the copy.
func (r *rowAllocator) Reallocate(n int, old []byte) []byte {
	r.reserve(int64(n))
	defer r.unreserve(int64(len(old)))
	return memory.DefaultAllocator.Reallocate(n, old)
}

// Free implements memory.Allocator.
func (r *rowAllocator) Free(b []byte) {
	r.unreserve(int64(len(b)))
	memory.DefaultAllocator.Free(b)
}

// limit returns how many bytes the rows of the call may use: fewer if the client has no admin token, because it can
// then only bind parameters.
func (r *rowAllocator) limit() int64 {
	if serving.RequireAdmin(r.call.ctx) != nil {
		return min(maxDecodedParameterBytes, r.budget.Limit/4)
	}
	return r.budget.Limit / 4
}

// reserve waits until n bytes are free and reserves them. Puts get memory in the order of their calls of reserve. It
// panics if memory does not become available in time, if the put is canceled, or if its rows exceed the limit.
func (r *rowAllocator) reserve(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, limit := r.budget, r.limit()
	b.mu.Lock()
	used := r.used
	b.waiting = append(b.waiting, r)
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.waiting = slices.DeleteFunc(b.waiting, func(o *rowAllocator) bool { return o == r })
	}()
	if r.call.ctx.Err() != nil { // panic even if memory is free, so that Arrow's reader stops decompressing buffers
		panic(context.Cause(r.call.ctx))
	}
	if used+n > limit {
		panic(fmt.Errorf("the decompressed batches need %d bytes, which exceeds the limit of %d: send smaller batches: %w", used+n, limit, partd.ErrTooLarge))
	}
	for deadline := time.Now().Add(b.patience); !r.tryReserve(n, b.Limit/4); {
		if time.Now().After(deadline) {
			r.call.cancel(serving.ErrMemory) // so that the call ends with the status code for ErrMemory
			panic(serving.ErrMemory)
		}
		select {
		case <-r.call.ctx.Done():
			panic(context.Cause(r.call.ctx))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (r *rowAllocator) tryReserve(n, limit int64) bool {
	b := r.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting[0] != r || b.rowsUsed+n > limit || !b.TryAdd(n) { // TryAdd, because Add may lock mu, which is held
		return false
	}
	r.used += n
	b.rowsUsed += n
	return true
}

func (r *rowAllocator) unreserve(n int64) {
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	if !r.hasEnded {
		r.subtract(n)
	}
}

// subtract gives n bytes back to the budget, whose mu must be held.
func (r *rowAllocator) subtract(n int64) {
	r.used -= n
	r.budget.rowsUsed -= n
	r.budget.Add(-n)
}

// end returns all bytes to the budget. Rows that the store keeps count in the store's own budget.
func (r *rowAllocator) end() {
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	r.subtract(r.used)
	r.hasEnded = true
}
