package flightd

import (
	"runtime"
	"slices"
	"sync"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// answers limits the memory of messages that clients have not received yet. gRPC returns from a
// send when the message is queued, and the last message of a call outlives the call. Above the
// limit, the server picks the host with the most such bytes, and closes the connection of its
// newest call. A single call is never closed for this.
type answers struct {
	limit int64

	mu    sync.Mutex
	bytes int64            // bytes that are not sent yet
	calls []*watchedStream // the calls with such bytes, in the order of their first messages
}

// answer is a message with the call that sends it.
type answer struct {
	message any
	call    *watchedStream
}

// answerCodec encodes Flight's messages, and counts the answers among them.
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
	u := &pendingAnswer{data: data[0], call: a.call, n: int64(data.Len())}
	u.lost = runtime.AddCleanup(u, func(n int64) { a.call.s.answers.add(a.call, -n) }, u.n)
	a.call.s.answers.add(a.call, u.n)
	bytes := data[0].ReadOnlyData()
	return mem.BufferSlice{mem.NewBuffer(&bytes, u)}, nil
}

// pendingAnswer is the buffer pool of one message: gRPC returns the message to it after writing. If
// the connection was closed, gRPC may leave the message to the garbage collector instead.
type pendingAnswer struct {
	mem.BufferPool
	data mem.Buffer
	call *watchedStream
	n    int64
	lost runtime.Cleanup
}

// Put implements mem.BufferPool.
func (u *pendingAnswer) Put(*[]byte) {
	u.lost.Stop()
	u.call.s.answers.add(u.call, -u.n)
	u.data.Free()
}

func (a *answers) add(w *watchedStream, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.closed { // it is not counted any more
		return
	}
	if w.pending == 0 {
		a.calls = append(a.calls, w)
	}
	w.pending += n
	a.bytes += n
	v := w
	if n > 0 && a.bytes > a.limit && len(a.calls) > 1 {
		v = newestOfHeaviestHost(a.calls, func(w *watchedStream) int64 { return w.pending })
		a.bytes -= v.pending
		v.pending, v.closed = 0, true
		v.cancel(errMemory)
		go closeConnection(v.ctx)
	}
	if v.pending == 0 {
		a.calls = slices.DeleteFunc(a.calls, func(o *watchedStream) bool { return o == v })
	}
}

// newestOfHeaviestHost returns the newest call of the host with the most bytes. Calls with a negative
// number of bytes are left out.
func newestOfHeaviestHost(calls []*watchedStream, bytes func(*watchedStream) int64) (v *watchedStream) {
	hosts := map[string]int64{}
	for _, w := range calls {
		hosts[w.host] += max(0, bytes(w))
	}
	for _, w := range calls {
		if bytes(w) >= 0 && (v == nil || hosts[w.host] >= hosts[v.host]) {
			v = w
		}
	}
	return v
}
