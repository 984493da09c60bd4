package zmtp

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync/atomic"
	"time"
)

// ReaderOptions bound what a peer can cost.
type ReaderOptions struct {
	MaxMessage int64  // longest message, in bytes with its headers
	MaxFrames  int    // most frames of a message
	Budget     Budget // charged with memory before it is made, nil for none

	// Idle is how long to wait for a message to begin, 0 for ever. Stall is how
	// long each step of a message may take once it has begun, besides a second
	// per MinRate bytes, 0 for ever.
	Idle, Stall time.Duration

	// Command is called with the body of each command, which may come between
	// the frames of a message. Its error ends reading.
	Command func(body []byte) error
	// Wait is called before reading can block, after deadlines were set. Its
	// error ends reading.
	Wait func() error
}

const (
	// MinRate is the lowest rate that a message must arrive with once Stall is
	// over, in bytes per second.
	MinRate = 16 << 10
	// stepBytes are a step: what came fast before does not let a peer keep the
	// memory that it takes for hours.
	stepBytes = 512 << 10

	smallBuffer = 4 << 10       // that a quiet connection keeps
	firstGrowth = 64 << 10      // what it grows to first
	keepBuffer  = 1<<20 + 8<<10 // a larger buffer is given back after its message, or any where memory is short
	keepBusy    = 100 * time.Millisecond
	frameBytes  = 24 // memory per frame, besides its bytes

	framesAtOnce = 4 << 10 // until others get a turn
)

// Reader reads frames from a connection into a buffer. Where a message needs
// more, it gets another buffer: nothing is moved but the frame under way, so that
// a message takes little more than its length.
type Reader struct {
	conn net.Conn
	opts ReaderOptions

	maxCommand int // longest command

	buf        []byte
	pos        int       // where the next frame begins in buf
	end        int       // where what was read ends
	before     int       // bytes of the message before that frame
	older      int       // bytes of its buffers before buf
	begun      time.Time // when the step under way began
	stepped    int       // bytes of the message before it
	frames     [][]byte
	charged    int64 // of the budget, for buffers and frames
	hasFrames  int   // frames of the message, with commands
	headers    uint  // of frames, ever
	whole      bool  // its last frame was read
	deadlineOn bool
	received   atomic.Int64
}

// NewReader returns a reader. rest is what was read already.
func NewReader(conn net.Conn, rest []byte, opts ReaderOptions) *Reader {
	r := &Reader{conn: conn, opts: opts, maxCommand: maxCommandLen, buf: make([]byte, max(smallBuffer, len(rest)))}
	r.end = copy(r.buf, rest)
	return r
}

// Close gives memory back. It does not close the connection.
func (r *Reader) Close() {
	r.buf, r.frames, r.older = nil, nil, 0
	r.release(0)
}

// SetMaxMessage changes the limit, from the next message on. It is for whoever
// reads.
func (r *Reader) SetMaxMessage(bytes int64) { r.opts.MaxMessage = bytes }

// Received returns how many bytes have arrived.
func (r *Reader) Received() int64 { return r.received.Load() }

// Next returns the frames of the next message. They are valid until the next
// call. At the end of the connection, between messages, the error is io.EOF.
func (r *Reader) Next() ([][]byte, error) {
	r.begin()
	for {
		body, flags, err := r.frame()
		if err != nil {
			return nil, r.cutOff(err)
		}
		if flags&flagCommand != 0 {
			if err := r.command(body); err != nil {
				return nil, err
			}
			if len(r.frames) == 0 { // it came between messages
				r.begin()
			}
			continue
		}
		r.whole = flags&flagMore == 0
		if n := len(r.frames); n == cap(r.frames) && n >= smallBuffer/frameBytes {
			// The old room for frames and the new are there while one is copied.
			if err := r.charge(r.held()+int64(2*n*frameBytes), false); err != nil {
				return nil, err
			}
			r.frames = append(make([][]byte, 0, 2*n), r.frames...)
			r.release(r.held())
		}
		r.frames = append(r.frames, body)
		if r.whole {
			return r.frames, nil
		}
	}
}

// NextFrame returns the next message, which must be one frame. A large one is
// read into memory of its own, and owned is true; any other is valid until the
// next call.
func (r *Reader) NextFrame() (body []byte, owned bool, err error) {
	for {
		r.begin()
		flags, n, header, err := r.header()
		if err != nil {
			return nil, false, r.cutOff(err)
		}
		whole := r.pos + header + n
		if flags&flagMore != 0 {
			return nil, false, protocolErrorf("a message of several frames instead of one")
		}
		if flags&flagCommand == 0 && n > firstGrowth && whole > r.end {
			body := make([]byte, n)
			got := copy(body, r.buf[r.pos+header:r.end])
			r.pos, r.end = 0, 0
			return body, true, r.cutOff(r.readInto(body, got))
		}
		body, flags, err := r.frame()
		if err != nil {
			return nil, false, r.cutOff(err)
		}
		if flags&flagCommand != 0 {
			if err := r.command(body); err != nil {
				return nil, false, err
			}
			continue
		}
		return body, false, nil
	}
}

// begin forgets the message before, and gives back what a large one took.
func (r *Reader) begin() {
	if r.pos == r.end {
		r.pos, r.end = 0, 0
	}
	clear(r.frames) // they refer to older buffers
	if r.frames = r.frames[:0]; cap(r.frames) > firstGrowth/frameBytes {
		r.frames = nil
	}
	keep := keepBuffer
	if r.opts.Budget != nil && len(r.buf) > firstGrowth && r.opts.Budget.Crowded() {
		keep = firstGrowth
	}
	if left := r.end - r.pos; len(r.buf) > max(keep, 2*left) {
		buf := make([]byte, max(smallBuffer, left))
		r.pos, r.end = 0, copy(buf, r.buf[r.pos:r.end])
		r.buf = buf
	}
	r.older, r.before, r.hasFrames, r.whole = 0, 0, 0, false
	r.begun, r.stepped = time.Time{}, 0
	r.release(r.held())
}

// partial is how much of the message is there.
func (r *Reader) partial() int { return r.before + r.end - r.pos }

// cutOff tells an end between messages from one within.
func (r *Reader) cutOff(err error) error {
	if errors.Is(err, io.EOF) && (r.partial() > 0 || errors.Is(err, io.ErrUnexpectedEOF)) {
		return fmt.Errorf("the connection ended within a message, after %d bytes of it: %w", r.partial(), io.ErrUnexpectedEOF)
	}
	return err
}

func (r *Reader) command(body []byte) error {
	if r.opts.Command == nil {
		return nil
	}
	return r.opts.Command(body)
}

// First returns the first frame of the message that Next refused, if that was
// still read.
func (r *Reader) First() []byte {
	if len(r.frames) == 0 {
		return nil
	}
	return r.frames[0]
}

// Skip reads the rest of a message that Next refused for its size or for want of
// memory, and keeps nothing of it, so that the connection can go on. At most so
// many bytes are skipped.
func (r *Reader) Skip(most int64) error {
	limits := r.opts
	defer func() { r.opts.MaxMessage, r.opts.MaxFrames = limits.MaxMessage, limits.MaxFrames }()
	r.frames, r.older, r.opts.MaxFrames = nil, 0, math.MaxInt
	r.release(r.held())
	for more := !r.whole; more; {
		r.before, r.opts.MaxMessage = 1, most // as begun, it may stall no longer than any other
		flags, n, header, err := r.header()
		if err != nil {
			return r.cutOff(err)
		}
		if err := r.discard(header + n); err != nil {
			return r.cutOff(err)
		}
		most -= int64(header + n)
		more = flags&(flagMore|flagCommand) != 0 // a command may come in between
	}
	return nil
}

func (r *Reader) discard(n int) error {
	for {
		have := min(n, r.end-r.pos)
		r.pos, n = r.pos+have, n-have
		if n == 0 {
			return nil
		}
		if len(r.buf) > firstGrowth {
			r.buf = make([]byte, firstGrowth)
			r.release(firstGrowth)
		}
		r.pos, r.end, r.begun, r.stepped = 0, 0, time.Time{}, 0
		if err := r.fill(1, false); err != nil {
			return err
		}
	}
}
