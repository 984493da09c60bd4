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

// unsentLimit limits the memory of the server's unsent messages: gRPC's SendMsg only queues a message, and messages can
// still be queued after their call has returned. Above the limit, the server closes the connection of one call: the
// newest call of the host with the most unsent bytes. If only one call has unsent bytes, that call continues.
type unsentLimit struct {
	maxBytes int64
	senders  atomic.Int64 // number of calls that send rows

	mu    sync.Mutex
	bytes int64   // unsent bytes of all calls
	calls []*call // the calls with unsent bytes, in the order in which they got their first ones
}

// answer is a message to a client. Unless it is small, it counts towards call.pending until it is sent.
type answer struct {
	message any
	call    *call
}

// answerCodec encodes Flight's messages. It counts the bytes of each large answer until the answer is sent.
type answerCodec struct {
	encoding.CodecV2
	unsentLimit *unsentLimit
}

// Marshal implements encoding.CodecV2.
func (c answerCodec) Marshal(v any) (_ mem.BufferSlice, err error) {
	a, ok := v.(*answer)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	pending := &pendingAnswer{unsentLimit: c.unsentLimit, call: a.call}
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

// pendingAnswer counts an answer as unsent until gRPC has sent it. It acts as the pool of the answer's last buffer: gRPC
// returns each sent buffer to its pool, so a call of Put means that the answer has been sent. If the connection was
// closed, gRPC may drop the buffer instead; the garbage collector then runs cleanup.
type pendingAnswer struct {
	mem.BufferPool
	data        mem.BufferSlice
	batch       arrow.RecordBatch // owns the memory of data; can be nil
	unsentLimit *unsentLimit
	call        *call
	n           int64 // bytes of memory that the answer needs until it is sent
	cleanup     runtime.Cleanup
}

// charge counts the answer as unsent. It returns the answer's data, with p as the pool of the last buffer.
func (p *pendingAnswer) charge() mem.BufferSlice {
	type counted struct { // without a reference to p, which could otherwise never be collected
		batch arrow.RecordBatch
		n     int64
	}
	limit, call := p.unsentLimit, p.call
	p.cleanup = runtime.AddCleanup(p, func(c counted) {
		limit.add(call, -c.n)
		if c.batch != nil {
			c.batch.Release()
		}
	}, counted{p.batch, p.n})
	limit.add(call, p.n)
	const minPooled = 2 << 10 // gRPC does not return smaller buffers to their pool
	last := len(p.data) - 1
	lastData := p.data[last].ReadOnlyData()
	if cap(lastData) < minPooled {
		lastData = append(make([]byte, 0, minPooled), lastData...)
	}
	return append(slices.Clone(p.data[:last]), mem.NewBuffer(&lastData, p))
}

// Put implements mem.BufferPool.
func (p *pendingAnswer) Put(*[]byte) {
	p.cleanup.Stop()
	p.unsentLimit.add(p.call, -p.n)
	p.data.Free()
	if p.batch != nil {
		p.batch.Release()
	}
}

// add adds n, which may be negative, to the unsent bytes of c, and enforces the limit.
func (u *unsentLimit) add(c *call, n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if c.closed { // c's bytes are no longer counted
		return
	}
	if c.pending == 0 {
		u.calls = append(u.calls, c)
	}
	c.pending += n
	u.bytes += n
	victim := c
	if n > 0 && u.bytes > u.maxBytes && len(u.calls) > 1 {
		victim = newestOfHeaviestHost(u.calls, func(c *call) int64 { return c.pending })
		u.bytes -= victim.pending
		victim.pending, victim.closed = 0, true
		victim.cancel(serving.ErrMemory)
		go serving.CloseConnection(victim.ctx)
	}
	if victim.pending == 0 {
		u.calls = slices.DeleteFunc(u.calls, func(c *call) bool { return c == victim })
	}
}

// rowsMessage is an encoded FlightData message. Its body refers to the memory of a batch.
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

// encode returns the message and the number of bytes of memory that it needs until it is sent. It copies a message that
// is small, or that would keep much more memory alive than its own size. Otherwise, the message refers to the batch
// that encode returns; the caller must release the batch after the message has been sent.
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
