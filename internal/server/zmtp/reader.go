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

// ReaderOptions limits the memory and time that a peer can use.
type ReaderOptions struct {
	MaxMessage int64  // maximum length of a message in bytes, including frame headers
	MaxFrames  int    // maximum number of frames in a message
	Budget     Budget // charged before memory is allocated; nil means no limit

	// Idle is the maximum time until a message begins. Stall is the maximum time for each
	// 512 KiB of a message, in addition to a second per MinRate bytes. 0 means no limit.
	Idle, Stall time.Duration

	// Command is called with the body of each command. Commands can come between the frames
	// of a message. If Command returns an error, reading ends.
	Command func(body []byte) error
	// Wait is called before each read from the connection, after the read's deadline was set. If
	// Wait returns an error, reading ends.
	Wait func() error
}

const (
	// MinRate is the minimum rate of a message in bytes per second, once Stall has passed.
	MinRate = 16 << 10
	// stepSize divides a message into steps. The time limit restarts with each step, so that a peer
	// that sent the beginning of a long message fast cannot then hold memory for hours.
	stepSize = 512 << 10

	smallBuffer   = 4 << 10                // size of a quiet connection's buffer
	firstGrowth   = 64 << 10               // size of the buffer after it has grown once
	maxKeptBuffer = 1<<20 + 8<<10          // maximum size of a buffer that is kept after a message of several frames
	maxKeptBatch  = 5 << 20                // maximum size of a buffer that is kept after a message of one frame, such as a batch of 4 MiB
	keepTime      = 100 * time.Millisecond // how long a large buffer is kept while nothing arrives
	frameBytes    = 24                     // memory of a frame besides its content, in bytes

	framesPerTurn = 4 << 10 // number of frames to read before yielding to other goroutines
)

// Reader reads frames from a connection into a buffer. If a message outgrows the buffer, the reader
// continues in another buffer and copies only the current frame. So a message uses little more
// memory than its length.
type Reader struct {
	conn net.Conn
	opts ReaderOptions

	maxCommand int // maximum length of a command in bytes

	buf             []byte
	pos             int       // start of the next frame in buf
	end             int       // end of the data in buf
	bytesBefore     int       // bytes of the message before the frame at pos
	olderBytes      int       // total size of the message's earlier buffers
	stepStart       time.Time // start of the current step
	stepBytesBefore int       // bytes of the message before the current step
	frames          [][]byte
	charged         int64 // bytes charged to the budget for buffers and frames
	frameCount      int   // number of frames of the message so far, including commands
	headerCount     uint  // total number of frame headers read
	isComplete      bool  // the last frame of the message was read
	hasDeadline     bool
	received        atomic.Int64
	spare           atomic.Pointer[[]byte] // unused memory for a buffer; see Reuse
}

// NewReader returns a reader of conn. rest holds the bytes that were already read from conn.
func NewReader(conn net.Conn, rest []byte, opts ReaderOptions) *Reader {
	r := &Reader{conn: conn, opts: opts, maxCommand: maxCommandLen, buf: make([]byte, max(smallBuffer, len(rest)))}
	r.end = copy(r.buf, rest)
	return r
}

// Close releases the reader's memory. It does not close the connection.
func (r *Reader) Close() {
	r.buf, r.frames, r.olderBytes = nil, nil, 0
	r.release(0)
}

// SetMaxMessage changes the limit for further messages. Only the goroutine that reads may call it.
func (r *Reader) SetMaxMessage(bytes int64) { r.opts.MaxMessage = bytes }

// BytesReceived returns the total number of bytes read from the connection.
func (r *Reader) BytesReceived() int64 { return r.received.Load() }

// Next returns the frames of the next message. They are valid until the next call. If
// the connection ends between messages, the error is io.EOF.
func (r *Reader) Next() ([][]byte, error) {
	r.begin()
	for {
		body, flags, err := r.readFrame()
		if err != nil {
			return nil, r.wrapEOF(err)
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
			// Charge for both slices, because they exist at the same time during the copy.
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

// NextFrame returns the next message, which must consist of one frame. If owned is false, the
// message is valid only until the next call.
func (r *Reader) NextFrame() (body []byte, owned bool, err error) {
	frames, err := r.Next()
	if err != nil {
		return nil, false, err
	}
	if len(frames) > 1 {
		return nil, false, protocolErrorf("a message of several frames, where only one is allowed")
	}
	// Leave the buffer to the caller if most of it is a large frame.
	body = frames[0]
	owned = len(body) > max(firstGrowth, len(r.buf)/2)
	if owned {
		body = r.buf[r.pos-len(body) : r.pos] // its capacity is the rest of the buffer
		r.replaceBuffer(smallBuffer)
	}
	return body, owned, nil
}

// Reuse gives the reader a frame that the caller owned, so that the reader can use its memory for another frame.
// Reuse(nil) takes it back if the reader has not used it yet. Reuse may be called while another goroutine reads.
func (r *Reader) Reuse(frame []byte) { r.spare.Store(&frame) }

// replaceBuffer replaces the buffer with one of the given size, or larger if the unread bytes need more.
func (r *Reader) replaceBuffer(size int) {
	size = max(size, r.end-r.pos)
	var buf []byte
	if size > firstGrowth {
		if spare := r.spare.Swap(nil); spare != nil && cap(*spare) >= size-smallBuffer {
			buf = (*spare)[:cap(*spare)]
		}
	}
	if buf == nil {
		buf = make([]byte, size)
	}
	r.pos, r.end = 0, copy(buf, r.buf[r.pos:r.end])
	r.buf = buf
}

// begin resets the state for the next message and releases the memory of a large previous message.
func (r *Reader) begin() {
	if r.pos == r.end {
		r.pos, r.end = 0, 0
	}
	clear(r.frames) // release the buffers that the frames refer to
	r.frames = r.frames[:0]
	if cap(r.frames) > firstGrowth/frameBytes {
		r.frames = nil
	}
	maxKept := maxKeptBatch
	if r.frameCount > 1 { // the budget limits how many such messages may grow, and would count a larger kept buffer as one of them
		maxKept = maxKeptBuffer
	}
	if r.opts.Budget != nil && len(r.buf) > firstGrowth && r.opts.Budget.Crowded() {
		maxKept = firstGrowth
	}
	if len(r.buf) > max(maxKept, 2*(r.end-r.pos)) {
		r.replaceBuffer(smallBuffer)
	}
	r.olderBytes, r.bytesBefore, r.frameCount, r.isComplete = 0, 0, 0, false
	r.stepStart, r.stepBytesBefore = time.Time{}, 0
	r.release(r.heldBytes())
}

func (r *Reader) partialBytes() int { return r.bytesBefore + r.end - r.pos }

// wrapEOF returns io.ErrUnexpectedEOF if the connection ended within a message.
func (r *Reader) wrapEOF(err error) error {
	if errors.Is(err, io.EOF) && (r.partialBytes() > 0 || errors.Is(err, io.ErrUnexpectedEOF)) {
		return fmt.Errorf("the connection ended after %d bytes of a message: %w", r.partialBytes(), io.ErrUnexpectedEOF)
	}
	return err
}

func (r *Reader) command(body []byte) error {
	if r.opts.Command == nil {
		return nil
	}
	return r.opts.Command(body)
}

// FirstFrame returns the first frame of a message that Next rejected, or nil if it was not read.
func (r *Reader) FirstFrame() []byte {
	if len(r.frames) == 0 {
		return nil
	}
	return r.frames[0]
}

// Skip reads and discards the rest of a message that Next rejected because of its size or a lack of
// memory. Afterwards the connection is usable again. Skip fails if the rest has more than max bytes.
func (r *Reader) Skip(max int64) error {
	limits := r.opts
	defer func() { r.opts.MaxMessage, r.opts.MaxFrames = limits.MaxMessage, limits.MaxFrames }()
	r.frames, r.olderBytes, r.opts.MaxFrames = nil, 0, math.MaxInt
	r.release(r.heldBytes())
	for more := !r.isComplete; more; {
		r.bytesBefore, r.opts.MaxMessage = 1, max // 1 marks the message as begun, so that Stall applies
		flags, n, header, err := r.parseHeader()
		if err != nil {
			return r.wrapEOF(err)
		}
		if err := r.discard(header + n); err != nil {
			return r.wrapEOF(err)
		}
		max -= int64(header + n)
		more = flags&(flagMore|flagCommand) != 0 // commands can come between frames
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
		r.pos, r.end, r.stepStart, r.stepBytesBefore = 0, 0, time.Time{}, 0
		if err := r.fill(1, false); err != nil {
			return err
		}
	}
}
