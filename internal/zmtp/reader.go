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

// ReaderOptions limit what a peer can cost.
type ReaderOptions struct {
	MaxMessage int64  // maximum length of a message with its headers, in bytes
	MaxFrames  int    // maximum number of frames in a message
	Budget     Budget // charged before memory is allocated; nil for none

	// Idle limits how long to wait for a message to begin. Stall limits how long each step of a
	// message may take once it has begun, plus a second per MinRate bytes. 0 means no limit.
	Idle, Stall time.Duration

	// Command is called with the body of each command, which may come between the
	// frames of a message. If it returns an error, reading ends.
	Command func(body []byte) error
	// Wait is called before reading can block, after deadlines were set. If it returns
	// an error, reading ends.
	Wait func() error
}

const (
	// MinRate is the rate in bytes per second at which a message must arrive once Stall
	// has passed.
	MinRate = 16 << 10
	// stepBytes is the length of a step. Steps keep a peer whose message began fast
	// from holding its memory for hours.
	stepBytes = 512 << 10

	smallBuffer = 4 << 10       // what a quiet connection keeps
	firstGrowth = 64 << 10      // the size after the first growth
	keepBuffer  = 1<<20 + 8<<10 // a larger buffer is released after its message, and any buffer if memory is short
	keepBusy    = 100 * time.Millisecond
	frameBytes  = 24 // memory of a frame besides its bytes

	framesAtOnce = 4 << 10 // frames read before other goroutines get a turn
)

// Reader reads frames from a connection into a buffer. A message that needs more gets a
// further buffer, into which only the current frame is copied. So a message uses little
// more memory than its length.
type Reader struct {
	conn net.Conn
	opts ReaderOptions

	maxCommand int // maximum length of a command

	buf        []byte
	pos        int       // start of the next frame in buf
	end        int       // end of the data in buf
	before     int       // bytes of the message before that frame
	older      int       // bytes of the message's buffers before buf
	start      time.Time // start of the current step
	stepped    int       // bytes of the message before the current step
	frames     [][]byte
	charged    int64 // bytes charged to the budget for buffers and frames
	hasFrames  int   // frames of the message so far, including commands
	headers    uint  // frame headers read, ever
	isComplete bool  // the last frame of the message was read
	deadlineOn bool
	received   atomic.Int64
}

// NewReader returns a reader of conn. rest is what was already read from it.
func NewReader(conn net.Conn, rest []byte, opts ReaderOptions) *Reader {
	r := &Reader{conn: conn, opts: opts, maxCommand: maxCommandLen, buf: make([]byte, max(smallBuffer, len(rest)))}
	r.end = copy(r.buf, rest)
	return r
}

// Close releases the reader's memory. It does not close the connection.
func (r *Reader) Close() {
	r.buf, r.frames, r.older = nil, nil, 0
	r.release(0)
}

// SetMaxMessage changes the limit from the next message on. Only the goroutine that
// reads may call it.
func (r *Reader) SetMaxMessage(bytes int64) { r.opts.MaxMessage = bytes }

// BytesReceived returns the number of bytes that have arrived.
func (r *Reader) BytesReceived() int64 { return r.received.Load() }

// Next returns the frames of the next message. They are valid until the next call. If
// the connection ends between messages, the error is io.EOF.
func (r *Reader) Next() ([][]byte, error) {
	r.begin()
	for {
		body, flags, err := r.readFrame()
		if err != nil {
			return nil, r.cutOff(err)
		}
		if flags&flagCommand != 0 {
			if err := r.command(body); err != nil {
				return nil, err
			}
			if len(r.frames) == 0 { // the command came between messages
				r.begin()
			}
			continue
		}
		r.isComplete = flags&flagMore == 0
		if n := len(r.frames); n == cap(r.frames) && n >= smallBuffer/frameBytes {
			// During the copy, both the old and the new slice exist.
			if err := r.charge(r.heldBytes()+int64(2*n*frameBytes), false); err != nil {
				return nil, err
			}
			r.frames = append(make([][]byte, 0, 2*n), r.frames...)
			r.release(r.heldBytes())
		}
		r.frames = append(r.frames, body)
		if r.isComplete {
			return r.frames, nil
		}
	}
}

// NextFrame returns the next message, which must be one frame. If owned is true, the
// message has its own memory; otherwise it is valid until the next call.
func (r *Reader) NextFrame() (body []byte, owned bool, err error) {
	for {
		r.begin()
		flags, n, header, err := r.parseHeader()
		if err != nil {
			return nil, false, r.cutOff(err)
		}
		end := r.pos + header + n
		if flags&flagMore != 0 {
			return nil, false, protocolErrorf("a message of several frames instead of one")
		}
		if flags&flagCommand == 0 && n > firstGrowth && end > r.end {
			body := make([]byte, n)
			got := copy(body, r.buf[r.pos+header:r.end])
			r.pos, r.end = 0, 0
			return body, true, r.cutOff(r.readInto(body, got))
		}
		body, flags, err := r.readFrame()
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

// begin resets the state for the next message, and releases the memory of a large one.
func (r *Reader) begin() {
	if r.pos == r.end {
		r.pos, r.end = 0, 0
	}
	clear(r.frames) // they refer to older buffers
	if r.frames = r.frames[:0]; cap(r.frames) > firstGrowth/frameBytes {
		r.frames = nil
	}
	maxKept := keepBuffer
	if r.opts.Budget != nil && len(r.buf) > firstGrowth && r.opts.Budget.Crowded() {
		maxKept = firstGrowth
	}
	if unread := r.end - r.pos; len(r.buf) > max(maxKept, 2*unread) {
		buf := make([]byte, max(smallBuffer, unread))
		r.pos, r.end = 0, copy(buf, r.buf[r.pos:r.end])
		r.buf = buf
	}
	r.older, r.before, r.hasFrames, r.isComplete = 0, 0, 0, false
	r.start, r.stepped = time.Time{}, 0
	r.release(r.heldBytes())
}

func (r *Reader) partialBytes() int { return r.before + r.end - r.pos }

// cutOff returns io.ErrUnexpectedEOF if the connection ended within a message.
func (r *Reader) cutOff(err error) error {
	if errors.Is(err, io.EOF) && (r.partialBytes() > 0 || errors.Is(err, io.ErrUnexpectedEOF)) {
		return fmt.Errorf("the connection ended within a message, after %d bytes of it: %w", r.partialBytes(), io.ErrUnexpectedEOF)
	}
	return err
}

func (r *Reader) command(body []byte) error {
	if r.opts.Command == nil {
		return nil
	}
	return r.opts.Command(body)
}

// FirstFrame returns the first frame of a message that Next refused, if it was read.
func (r *Reader) FirstFrame() []byte {
	if len(r.frames) == 0 {
		return nil
	}
	return r.frames[0]
}

// Skip reads and discards the rest of a message that Next refused for its size or for
// lack of memory, so that the connection can go on. It skips at most max bytes.
func (r *Reader) Skip(max int64) error {
	limits := r.opts
	defer func() { r.opts.MaxMessage, r.opts.MaxFrames = limits.MaxMessage, limits.MaxFrames }()
	r.frames, r.older, r.opts.MaxFrames = nil, 0, math.MaxInt
	r.release(r.heldBytes())
	for more := !r.isComplete; more; {
		r.before, r.opts.MaxMessage = 1, max // a message that has begun may stall no longer than any other
		flags, n, header, err := r.parseHeader()
		if err != nil {
			return r.cutOff(err)
		}
		if err := r.discard(header + n); err != nil {
			return r.cutOff(err)
		}
		max -= int64(header + n)
		more = flags&(flagMore|flagCommand) != 0 // a command may come in between
	}
	return nil
}

func (r *Reader) discard(n int) error {
	for {
		available := min(n, r.end-r.pos)
		r.pos, n = r.pos+available, n-available
		if n == 0 {
			return nil
		}
		if len(r.buf) > firstGrowth {
			r.buf = make([]byte, firstGrowth)
			r.release(firstGrowth)
		}
		r.pos, r.end, r.start, r.stepped = 0, 0, time.Time{}, 0
		if err := r.fill(1, false); err != nil {
			return err
		}
	}
}
