package zmtp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Budget is what memory is taken from.
type Budget interface {
	// Take takes bytes, or says why not. It may wait. With whole, the message
	// needs no more than these, so that who waits for them holds up nobody.
	Take(bytes int64, whole bool) error
	// Give gives bytes back.
	Give(bytes int64)
	// Crowded tells whether others may soon want what is kept for the next message.
	Crowded() bool
}

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
)

// Reader reads frames from a connection into a buffer. Where a message needs
// more, it gets another buffer: nothing is moved but the frame under way, so that
// a message takes little more than its length.
type Reader struct {
	conn net.Conn
	opts ReaderOptions

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
	whole      bool  // its last frame was read
	deadlineOn bool
	received   atomic.Int64
}

// NewReader returns a reader. rest is what was read already.
func NewReader(conn net.Conn, rest []byte, opts ReaderOptions) *Reader {
	r := &Reader{conn: conn, opts: opts, buf: make([]byte, max(smallBuffer, len(rest)))}
	r.end = copy(r.buf, rest)
	return r
}

// Close gives memory back. It does not close the connection.
func (r *Reader) Close() {
	r.buf, r.frames, r.older = nil, nil, 0
	r.release(0)
}

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
			if err := r.charge(int64(r.older+len(r.buf)+2*n*frameBytes), false); err != nil {
				return nil, err
			}
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
			return nil, false, protocolErrorf("a message of several frames, it should have one")
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

// held is what the buffers and frames take.
func (r *Reader) held() int64 { return int64(r.older + len(r.buf) + cap(r.frames)*frameBytes) }

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

// header returns what the next frame's header says, reading as far as that.
func (r *Reader) header() (flags byte, n, header int, err error) {
	for {
		b := r.buf[r.pos:r.end]
		if len(b) > 0 && b[0]&flagReserved != 0 {
			return 0, 0, 0, protocolErrorf("a frame with flags %#02x, of which some are reserved", b[0])
		}
		if len(b) >= 2 && b[0]&flagLong == 0 {
			flags, n, header = b[0], int(b[1]), 2
			break
		}
		if len(b) >= maxHeaderLen {
			size := binary.BigEndian.Uint64(b[1:])
			// Beyond any limit, and beyond what an int can count.
			if size > uint64(r.opts.MaxMessage) {
				return 0, 0, 0, fmt.Errorf("%w: a frame says that it has %d bytes, the limit is %d", ErrTooLarge, size, r.opts.MaxMessage)
			}
			flags, n, header = b[0], int(size), maxHeaderLen
			break
		}
		if err := r.fill(1, false); err != nil {
			return 0, 0, 0, err
		}
	}
	if flags&flagCommand != 0 {
		if flags&flagMore != 0 {
			return 0, 0, 0, protocolErrorf("a command that goes on in another frame")
		}
		if n > MaxCommandLen {
			return 0, 0, 0, protocolErrorf("a command of %d bytes, the limit is %d", n, MaxCommandLen)
		}
	}
	if total := int64(r.before + header + n); total > r.opts.MaxMessage {
		return 0, 0, 0, fmt.Errorf("%w: it has at least %d bytes, the limit is %d", ErrTooLarge, total, r.opts.MaxMessage)
	}
	return flags, n, header, nil
}

// frame reads the next frame.
func (r *Reader) frame() (body []byte, flags byte, err error) {
	flags, n, header, err := r.header()
	if err != nil {
		return nil, 0, err
	}
	if r.hasFrames++; r.hasFrames > r.opts.MaxFrames {
		return nil, 0, fmt.Errorf("%w: it has more than %d frames", ErrTooLarge, r.opts.MaxFrames)
	}
	for {
		missing := r.pos + header + n - r.end
		if missing <= 0 {
			break
		}
		if err := r.fill(missing, flags&flagMore == 0); err != nil {
			return nil, 0, err
		}
	}
	from := r.pos + header
	r.pos += header + n
	r.before += header + n
	return r.buf[from:r.pos:r.pos], flags, nil
}

// fill reads more bytes, of which so many are known to be missing. With last,
// they are the last of the message.
func (r *Reader) fill(missing int, last bool) error {
	if r.end == len(r.buf) {
		if err := r.makeRoom(missing, last); err != nil {
			return err
		}
	}
	for {
		shrinking, err := r.setDeadline(r.partial())
		if err != nil {
			return err
		}
		n, err := r.conn.Read(r.buf[r.end:])
		if n > 0 {
			if r.begun.IsZero() && r.opts.Stall > 0 {
				r.begun = time.Now()
			}
			r.end += n
			r.received.Add(int64(n))
			return nil
		}
		if shrinking && errors.Is(err, os.ErrDeadlineExceeded) {
			// It is quiet now: another connection may need the memory more.
			r.buf, r.pos, r.end, r.frames = make([]byte, smallBuffer), 0, 0, nil
			r.release(0)
			continue
		}
		if err != nil {
			return err
		}
	}
}

// readInto fills memory of its own from the connection.
func (r *Reader) readInto(body []byte, got int) error {
	for got < len(body) {
		if _, err := r.setDeadline(max(got, 1)); err != nil {
			return err
		}
		n, err := r.conn.Read(body[got:])
		if n > 0 && r.begun.IsZero() {
			r.begun = time.Now()
		}
		got += n
		if err != nil && got < len(body) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// setDeadline bounds the next read, with so much of a message there.
func (r *Reader) setDeadline(partial int) (shrinking bool, err error) {
	var at time.Time
	switch {
	case partial > 0 && r.opts.Stall > 0:
		if r.begun.IsZero() || partial-r.stepped >= stepBytes {
			r.begun, r.stepped = time.Now(), partial
		}
		at = r.begun.Add(r.opts.Stall + time.Duration(partial-r.stepped)*time.Second/MinRate)
	case partial == 0 && len(r.buf) > smallBuffer:
		at, shrinking = time.Now().Add(keepBusy), true
	case partial == 0 && r.opts.Idle > 0:
		at = time.Now().Add(r.opts.Idle)
	}
	if !at.IsZero() || r.deadlineOn {
		if err := r.conn.SetReadDeadline(at); err != nil {
			return false, err
		}
		r.deadlineOn = !at.IsZero()
	}
	if r.opts.Wait != nil {
		return shrinking, r.opts.Wait()
	}
	return shrinking, nil
}

// makeRoom makes room for the frame under way, of which so many bytes are known
// to be missing. Once some of the message is there, what the header announces is
// taken at once: nobody waits with half a frame for memory that others hold in
// the same way. Before, a claim takes little.
func (r *Reader) makeRoom(missing int, last bool) error {
	part := r.end - r.pos
	if r.pos > 0 && len(r.frames) == 0 && part+missing <= len(r.buf) && part <= len(r.buf)/2 {
		r.end = copy(r.buf, r.buf[r.pos:r.end])
		r.pos = 0
		return nil
	}
	size := max(firstGrowth, min(2*len(r.buf), keepBuffer))
	if r.partial() >= firstGrowth/2 {
		size = max(size, part+missing+smallBuffer) // what follows is most often small
	}
	older := r.older
	if len(r.frames) > 0 {
		older += len(r.buf)
	}
	whole := last && len(r.frames) == 0 && part+missing <= size
	// What is held now has all arrived, and goes when it was copied.
	if err := r.charge(int64(older+size+cap(r.frames)*frameBytes), whole); err != nil {
		return err
	}
	buf := make([]byte, size)
	r.end = copy(buf, r.buf[r.pos:r.end])
	r.buf, r.pos, r.older = buf, 0, older
	return nil
}

// charge makes what the budget was charged with so many bytes. What a quiet
// connection has is free. Waiting for memory is no fault of the peer.
func (r *Reader) charge(bytes int64, whole bool) error {
	if r.opts.Budget == nil {
		return nil
	}
	if bytes <= smallBuffer {
		bytes = 0
	}
	change := bytes - r.charged
	switch {
	case change > 0:
		if err := r.opts.Budget.Take(change, whole); err != nil {
			return err
		}
		if !r.begun.IsZero() {
			r.begun, r.stepped = time.Now(), r.partial()
		}
	case change < 0:
		r.opts.Budget.Give(-change)
	}
	r.charged = bytes
	return nil
}

// release charges less than before, which cannot fail.
func (r *Reader) release(bytes int64) { _ = r.charge(min(bytes, r.charged), true) }
