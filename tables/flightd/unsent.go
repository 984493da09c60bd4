package flightd

import (
	"runtime"
	"slices"
	"sync"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// answers limits the memory of the server's unsent messages. gRPC's SendMsg only queues a message, and a call's
// last message outlives the call. Above the limit, the server closes the connection of one call: the newest call
// of the host with the most unsent bytes. If only one call has unsent bytes, that call continues.
type answers struct {
	limit int64

	mu    sync.Mutex
	bytes int64            // unsent bytes of all calls
	calls []*watchedStream // the calls with unsent bytes, in order of their first unsent messages
}

type answer struct {
	message any
	call    *watchedStream
}

// answerCodec encodes Flight's messages, and counts the bytes of each answer until it is sent.
type answerCodec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c answerCodec) Marshal(v any) (mem.BufferSlice, error) {
	a, ok := v.(*answer)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	data, err := c.CodecV2.Marshal(a.message)
	if err != nil || data.Len() < minCharged || len(data) > 1 {
		return data, err
	}
	pending := &pendingAnswer{data: data[0], call: a.call, n: int64(data.Len())}
	pending.cleanup = runtime.AddCleanup(pending, func(n int64) { a.call.s.answers.add(a.call, -n) }, pending.n)
	a.call.s.answers.add(a.call, pending.n)
	bytes := data[0].ReadOnlyData()
	return mem.BufferSlice{mem.NewBuffer(&bytes, pending)}, nil
}

// pendingAnswer is the buffer pool of a single message, and so learns when the message has been sent: gRPC
// then returns it to the pool. If the connection was closed, gRPC may drop the message instead; the garbage
// collector then runs cleanup.
type pendingAnswer struct {
	mem.BufferPool
	data    mem.Buffer
	call    *watchedStream
	n       int64
	cleanup runtime.Cleanup
}

// Put implements mem.BufferPool.
func (u *pendingAnswer) Put(*[]byte) {
	u.cleanup.Stop()
	u.call.s.answers.add(u.call, -u.n)
	u.data.Free()
}

// add adds n, which may be negative, to the unsent bytes of a call, and enforces the limit.
func (a *answers) add(w *watchedStream, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.closed { // the call's bytes are no longer counted
		return
	}
	if w.pending == 0 {
		a.calls = append(a.calls, w)
	}
	w.pending += n
	a.bytes += n
	victim := w
	if n > 0 && a.bytes > a.limit && len(a.calls) > 1 {
		victim = newestOfHeaviestHost(a.calls, func(w *watchedStream) int64 { return w.pending })
		a.bytes -= victim.pending
		victim.pending, victim.closed = 0, true
		victim.cancel(serving.ErrMemory)
		go serving.CloseConnection(victim.ctx)
	}
	if victim.pending == 0 {
		a.calls = slices.DeleteFunc(a.calls, func(c *watchedStream) bool { return c == victim })
	}
}

// newestOfHeaviestHost returns the newest call of the host with the most bytes. It ignores calls for
// which bytes returns a negative number.
func newestOfHeaviestHost(calls []*watchedStream, bytes func(*watchedStream) int64) (newest *watchedStream) {
	hosts := map[string]int64{}
	for _, w := range calls {
		hosts[w.host] += max(0, bytes(w))
	}
	for _, w := range calls {
		if bytes(w) >= 0 && (newest == nil || hosts[w.host] >= hosts[newest.host]) {
			newest = w
		}
	}
	return newest
}
