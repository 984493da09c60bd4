package flightd

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/util"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// unsentLimit limits the memory of the server's unsent messages. gRPC's SendMsg only queues a message, and a call's
// last message outlives the call. Above the limit, the server closes the connection of one call: the newest call
// of the host with the most unsent bytes. If only one call has unsent bytes, that call continues.
type unsentLimit struct {
	limit   int64
	senders atomic.Int64 // number of calls that send rows

	mu    sync.Mutex
	bytes int64   // unsent bytes of all calls
	calls []*call // the calls with unsent bytes, in order of their first unsent messages
}

type answer struct {
	message any
	call    *call
}

// answerCodec encodes Flight's messages, and counts an answer's bytes until it is sent.
type answerCodec struct {
	encoding.CodecV2
	unsent *unsentLimit
}

// Marshal implements encoding.CodecV2.
func (c answerCodec) Marshal(v any) (_ mem.BufferSlice, err error) {
	a, ok := v.(*answer)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	pending := &pendingAnswer{unsent: c.unsent, call: a.call}
	if rows, ok := a.message.(*rowsMessage); ok {
		pending.data, pending.n, pending.batch = rows.encode()
	} else {
		pending.data, err = c.CodecV2.Marshal(a.message)
		pending.n = int64(pending.data.Len())
	}
	if err != nil || pending.n < minCharged {
		return pending.data, err
	}
	return pending.charge(), nil
}

// pendingAnswer is the buffer pool for a single message. That way, it learns when the message has been sent, because
// gRPC then returns the message to the pool. If the connection was closed, gRPC may drop the message instead; the
// garbage collector then runs cleanup.
type pendingAnswer struct {
	mem.BufferPool
	data    mem.BufferSlice
	batch   arrow.RecordBatch // owns the memory of data; can be nil
	unsent  *unsentLimit
	call    *call
	n       int64 // bytes of memory
	cleanup runtime.Cleanup
}

// charge counts the message, and returns its data, whose last piece belongs to u.
func (u *pendingAnswer) charge() mem.BufferSlice {
	type counted struct {
		batch arrow.RecordBatch
		n     int64
	}
	unsent, call := u.unsent, u.call
	u.cleanup = runtime.AddCleanup(u, func(c counted) {
		unsent.add(call, -c.n)
		if c.batch != nil {
			c.batch.Release()
		}
	}, counted{u.batch, u.n})
	unsent.add(call, u.n)
	const minPooled = 2 << 10 // gRPC does not return smaller buffers to their pool
	last := len(u.data) - 1
	end := u.data[last].ReadOnlyData()
	if cap(end) < minPooled {
		end = append(make([]byte, 0, minPooled), end...)
	}
	return append(slices.Clone(u.data[:last]), mem.NewBuffer(&end, u))
}

// Put implements mem.BufferPool.
func (u *pendingAnswer) Put(*[]byte) {
	u.cleanup.Stop()
	u.unsent.add(u.call, -u.n)
	u.data.Free()
	if u.batch != nil {
		u.batch.Release()
	}
}

// add adds n, which may be negative, to the unsent bytes of a call, and enforces the limit.
func (a *unsentLimit) add(w *call, n int64) {
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
		victim = newestOfHeaviestHost(a.calls, func(w *call) int64 { return w.pending })
		a.bytes -= victim.pending
		victim.pending, victim.closed = 0, true
		victim.cancel(serving.ErrMemory)
		go serving.CloseConnection(victim.ctx)
	}
	if victim.pending == 0 {
		a.calls = slices.DeleteFunc(a.calls, func(c *call) bool { return c == victim })
	}
}

// rowsMessage is an encoded FlightData message, whose body refers to the memory of a batch.
type rowsMessage struct {
	batch    arrow.RecordBatch
	pieces   mem.BufferSlice
	bodySize int
}

// Write adds b to the body without copying it.
func (m *rowsMessage) Write(b []byte) (int, error) {
	m.pieces, m.bodySize = append(m.pieces, mem.SliceBuffer(b)), m.bodySize+len(b)
	return len(b), nil
}

// encode returns the message, and the memory, in bytes, that it needs until it is sent. It copies a message that is
// small, or that would keep much more memory alive than it needs itself. Otherwise, the message refers to the batch,
// which the caller must release after the message has been sent.
func (m *rowsMessage) encode() (data mem.BufferSlice, size int64, batch arrow.RecordBatch) {
	size = int64(m.pieces.Len())
	if size >= minCharged && m.batch != nil {
		if memory := util.TotalRecordSize(m.batch); memory <= 2*size {
			m.batch.Retain()
			return m.pieces, max(memory, size), m.batch
		}
	}
	return mem.BufferSlice{m.pieces.MaterializeToBuffer(mem.DefaultBufferPool())}, size, nil
}
