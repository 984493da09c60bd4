package flightd

import (
	"runtime"
	"slices"
	"sync"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// answers bound the memory of messages that clients have yet to take: gRPC returns
// from the sending of one once it is in line, and a call's last one outlives the call.
// Above the limit the connection of a call is closed: of the newest of the host that
// leaves most. One message is always in order.
type answers struct {
	limit int64

	mu   sync.Mutex
	left int64      // bytes
	all  []*watched // with bytes that are left, in the order of their first ones
}

// answer is a message, and the call that sends it.
type answer struct {
	message any
	of      *watched
}

// answerCodec encodes Flight's messages, and counts those that are answers.
type answerCodec struct{ encoding.CodecV2 }

// Marshal is encoding.CodecV2's.
func (c answerCodec) Marshal(v any) (mem.BufferSlice, error) {
	a, ok := v.(*answer)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	data, err := c.CodecV2.Marshal(a.message)
	if err != nil || data.Len() < costly || len(data) > 1 {
		return data, err
	}
	u := &untaken{data: data[0], of: a.of, n: int64(data.Len())}
	u.lost = runtime.AddCleanup(u, func(n int64) { a.of.s.answers.add(a.of, -n) }, u.n)
	a.of.s.answers.add(a.of, u.n)
	bytes := data[0].ReadOnlyData()
	return mem.BufferSlice{mem.NewBuffer(&bytes, u)}, nil
}

// untaken is the pool to which gRPC gives a message back once it is written. Those
// of connections that were closed may be left to the garbage collector.
type untaken struct {
	mem.BufferPool
	data mem.Buffer
	of   *watched
	n    int64
	lost runtime.Cleanup
}

// Put is mem.BufferPool's.
func (u *untaken) Put(*[]byte) {
	u.lost.Stop()
	u.of.s.answers.add(u.of, -u.n)
	u.data.Free()
}

func (a *answers) add(w *watched, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.cut { // and forgotten
		return
	}
	if w.untaken == 0 {
		a.all = append(a.all, w)
	}
	w.untaken += n
	a.left += n
	v := w
	if n > 0 && a.left > a.limit && len(a.all) > 1 {
		v = newestOfMost(a.all, func(w *watched) int64 { return w.untaken })
		a.left -= v.untaken
		v.untaken, v.cut = 0, true
		v.cancel(errMemory)
		go closeConnection(v.ctx)
	}
	if v.untaken == 0 {
		a.all = slices.DeleteFunc(a.all, func(o *watched) bool { return o == v })
	}
}

// newestOfMost is the newest call of the host that has most bytes. Those that have
// less than none do not count.
func newestOfMost(calls []*watched, bytes func(*watched) int64) (v *watched) {
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
