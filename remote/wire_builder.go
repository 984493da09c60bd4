package remote

import (
	"encoding/binary"
	"sync"
)

// builder builds the body of a message without copying large pieces. It leaves space for the headers
// before the body.
type builder struct {
	buf   []byte // space for the headers, then the body
	refs  []ref  // pieces of the body that were not copied
	bytes int    // total length of refs
}

// ref is a piece of the body. It belongs before buf[offset:].
type ref struct {
	offset int
	data   []byte
}

const (
	headerSpace     = 9 + requestLen // space for the longest header of ZMTP and for a request's header
	minRefLen       = 16 << 10       // minimum length of a piece that is not copied
	maxPooledBuffer = 1<<20 + 4<<10  // maximum size of a buffer in the pool buffers
)

// buffers holds buffers for messages, of at most maxPooledBuffer bytes each.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

func newBuilder() builder {
	return builder{buf: (*buffers.Get().(*[]byte))[:headerSpace]}
}

func (b *builder) recycle() {
	if c := cap(b.buf); c > 0 && c <= maxPooledBuffer {
		buf := b.buf[:0]
		buffers.Put(&buf)
	}
	b.buf, b.refs = nil, nil
}

// batchBuffers holds larger buffers, of at most maxBatchBuffer bytes each, for batches of maxBatch bytes and for pages.
// Without it, each batch would use new memory, and an append would spend most of its time on page faults.
var batchBuffers sync.Pool

const maxBatchBuffer = 2 * maxBatch

// reserve makes room for a body of the given size.
func (b *builder) reserve(bytes int) {
	if cap(b.buf) >= bytes {
		return
	}
	if bytes <= maxPooledBuffer { // recycle later puts the larger buffer into the pool instead of the smaller one
		b.buf = append(make([]byte, 0, bytes), b.buf...)
		return
	}
	var larger []byte
	if spare, _ := batchBuffers.Get().(*[]byte); spare != nil {
		larger = *spare
	}
	if cap(larger) < bytes {
		larger = make([]byte, 0, bytes)
	}
	old := *b
	b.buf = append(larger[:0], old.buf...)
	old.recycle()
}

// recycleBatch is like recycle, but also keeps a larger buffer.
func (b *builder) recycleBatch() {
	if c := cap(b.buf); c > maxPooledBuffer && c <= maxBatchBuffer {
		buf := b.buf
		batchBuffers.Put(&buf)
		b.buf = nil
	}
	b.recycle()
}

func (b *builder) size() int { return len(b.buf) - headerSpace + b.bytes }

// appendData adds data to the body. Large data is not copied, so it must not change until the message
// is written.
func (b *builder) appendData(data []byte) {
	if len(data) < minRefLen {
		b.buf = append(b.buf, data...)
		return
	}
	b.refs = append(b.refs, ref{len(b.buf), data})
	b.bytes += len(data)
}

func (b *builder) bool(v bool)  { b.buf = appendBool(b.buf, v) }
func (b *builder) u16(v uint16) { b.buf = binary.LittleEndian.AppendUint16(b.buf, v) }
func (b *builder) u32(v uint32) { b.buf = binary.LittleEndian.AppendUint32(b.buf, v) }
func (b *builder) u64(v uint64) { b.buf = binary.LittleEndian.AppendUint64(b.buf, v) }

// reserveU32 adds space for a 32-bit number, to be set later by setU32 with the returned offset.
func (b *builder) reserveU32() (offset int) {
	b.u32(0)
	return len(b.buf) - 4
}

func (b *builder) setU32(offset int, v uint32) { binary.LittleEndian.PutUint32(b.buf[offset:], v) }
func (b *builder) setU64(offset int, v uint64) { binary.LittleEndian.PutUint64(b.buf[offset:], v) }

// frame returns the message: the headers followed by the body.
func (b *builder) frame(headers []byte) [][]byte {
	start := headerSpace - len(headers)
	copy(b.buf[start:], headers)
	return b.parts(start)
}

func (b *builder) body() [][]byte { return b.parts(headerSpace) }

func (b *builder) parts(start int) [][]byte {
	if len(b.refs) == 0 {
		return [][]byte{b.buf[start:]}
	}
	parts := make([][]byte, 0, 2*len(b.refs)+1)
	for _, p := range b.refs {
		if p.offset > start {
			parts = append(parts, b.buf[start:p.offset])
		}
		parts = append(parts, p.data)
		start = p.offset
	}
	if start < len(b.buf) {
		parts = append(parts, b.buf[start:])
	}
	return parts
}

// cutPieces removes the first n bytes from pieces and returns them.
func cutPieces(pieces *[][]byte, n int) (head [][]byte) {
	for n > 0 && len(*pieces) > 0 {
		p := (*pieces)[0]
		if len(p) > n {
			(*pieces)[0] = p[n:]
			return append(head, p[:n])
		}
		*pieces = (*pieces)[1:]
		head = append(head, p)
		n -= len(p)
	}
	return head
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}
