package remote

import (
	"encoding/binary"
	"sync"

	"github.com/go-partd/partd/internal/zmtp"
)

// answer is the body of a reply being made.
type answer struct {
	allowance
	buf   []byte // room for the headers, then the body
	refs  []ref  // pieces of the body that were not copied
	bytes int    // length of those
	flags uint8
}

// ref is a piece of the body that comes before buf[at:].
type ref struct {
	at   int
	data []byte
}

const (
	headRoom   = 9 + replyLen
	byRef      = 16 << 10 // pieces from this length on are not copied
	keepAnswer = 1 << 20  // larger memory is not kept for the next answer
)

var answerBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

func (c *conn) newAnswer() *answer {
	b := answerBuffers.Get().(*[]byte)
	return &answer{allowance: allowance{budget: &c.server.budget, ctx: c.ctx}, buf: (*b)[:headRoom]}
}

// drop gives its memory back.
func (a *answer) drop() {
	if cap(a.buf) <= keepAnswer {
		b := a.buf[:0]
		answerBuffers.Put(&b)
	}
	a.buf, a.refs = nil, nil
	a.release()
}

// size is the length of the body so far.
func (a *answer) size() int { return len(a.buf) - headRoom + a.bytes }

// refer adds a piece without a copy, if it is large. The answer owns it.
func (a *answer) refer(data []byte) {
	if len(data) < byRef {
		a.buf = append(a.buf, data...)
		return
	}
	a.refs = append(a.refs, ref{len(a.buf), data})
	a.bytes += len(data)
}

func (a *answer) u8(v uint8)   { a.buf = append(a.buf, v) }
func (a *answer) u32(v uint32) { a.buf = binary.LittleEndian.AppendUint32(a.buf, v) }
func (a *answer) u64(v uint64) { a.buf = binary.LittleEndian.AppendUint64(a.buf, v) }

// hole adds room for a number of 32 bits that is not known yet.
func (a *answer) hole() (at int) {
	a.u32(0)
	return len(a.buf) - 4
}

func (a *answer) fill(at int, v uint32) { binary.LittleEndian.PutUint32(a.buf[at:], v) }

// parts returns the reply as a frame, to be written.
func (a *answer) parts(r reply) [][]byte {
	r.flags |= a.flags
	var head [headRoom]byte
	h := zmtp.AppendHeader(head[:0], replyLen+a.size(), false)
	h = r.append(h)
	from := headRoom - len(h)
	copy(a.buf[from:], h)
	if len(a.refs) == 0 {
		return [][]byte{a.buf[from:]}
	}
	parts := make([][]byte, 0, 2*len(a.refs)+1)
	for _, p := range a.refs {
		if p.at > from {
			parts = append(parts, a.buf[from:p.at])
		}
		parts = append(parts, p.data)
		from = p.at
	}
	if from < len(a.buf) {
		parts = append(parts, a.buf[from:])
	}
	return parts
}
