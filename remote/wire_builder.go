package remote

import (
	"encoding/binary"
	"sync"
)

// builder makes the body of a message, with room before it for the headers.
// Large pieces are not copied.
type builder struct {
	buf   []byte // room for the headers, then the body
	refs  []ref  // pieces of the body that were not copied
	bytes int    // length of those
}

// ref is a piece of the body that comes before buf[at:].
type ref struct {
	at   int
	data []byte
}

const (
	headRoom   = 9 + requestLen
	byRef      = 16 << 10      // pieces from this length on are not copied
	keepBuffer = 1<<20 + 4<<10 // larger memory is not kept for the next message
)

// buffers has memory for messages, at most keepBuffer each.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

func newBuilder() builder {
	return builder{buf: (*buffers.Get().(*[]byte))[:headRoom]}
}

// recycle keeps the memory for the next message.
func (b *builder) recycle() {
	if c := cap(b.buf); c > 0 && c <= keepBuffer {
		buf := b.buf[:0]
		buffers.Put(&buf)
	}
	b.buf, b.refs = nil, nil
}

// size is the length of the body so far.
func (b *builder) size() int { return len(b.buf) - headRoom + b.bytes }

// refer adds a piece, without a copy if it is large. It must stay as it is until
// the message was written.
func (b *builder) refer(data []byte) {
	if len(data) < byRef {
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

// hole adds room for a number of 32 bits that is not known yet.
func (b *builder) hole() (at int) {
	b.u32(0)
	return len(b.buf) - 4
}

func (b *builder) fill(at int, v uint32) { binary.LittleEndian.PutUint32(b.buf[at:], v) }

// frame returns headers and body, to be written. The headers are put into the
// room before the body.
func (b *builder) frame(headers []byte) [][]byte {
	from := headRoom - len(headers)
	copy(b.buf[from:], headers)
	return b.parts(from)
}

// body returns the body, in parts.
func (b *builder) body() [][]byte { return b.parts(headRoom) }

func (b *builder) parts(from int) [][]byte {
	if len(b.refs) == 0 {
		return [][]byte{b.buf[from:]}
	}
	parts := make([][]byte, 0, 2*len(b.refs)+1)
	for _, p := range b.refs {
		if p.at > from {
			parts = append(parts, b.buf[from:p.at])
		}
		parts = append(parts, p.data)
		from = p.at
	}
	if from < len(b.buf) {
		parts = append(parts, b.buf[from:])
	}
	return parts
}
