package zmtp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Budget is what memory is taken from.
type Budget interface {
	// Take takes bytes, or says why not.
	Take(bytes int64) error
	// Give gives bytes back.
	Give(bytes int64)
}

// ReaderOptions bound what a peer can cost.
type ReaderOptions struct {
	MaxMessage int64  // longest message, in bytes with its headers
	MaxFrames  int    // most frames of a message
	Budget     Budget // charged with memory as bytes arrive, nil for none

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

	smallBuffer = 4 << 10  // that a quiet connection keeps
	firstGrowth = 64 << 10 // what it grows to first
	largeBuffer = 4 << 20  // beyond it, growing is by what is known to come
	keepBusy    = time.Second
	spanBytes   = 16 + 24 // memory per frame
)

// Reader reads frames from a connection into one buffer.
type Reader struct {
	conn net.Conn
	opts ReaderOptions

	buf        []byte
	start      int       // where the message begins in buf
	pos        int       // where its next frame begins
	end        int       // where what was read ends
	begun      time.Time // when the step under way began
	stepped    int       // bytes of the message before it
	spans      []span
	frames     [][]byte
	charged    int64 // of the budget, for buf and spans
	hasFrames  int   // frames of the message, with commands
	whole      bool  // its last frame was read
	deadlineOn bool
}

// span is where a frame's body is, from the message's begin.
type span struct{ from, to int }

// NewReader returns a reader. rest is what was read already.
func NewReader(conn net.Conn, rest []byte, opts ReaderOptions) *Reader {
	r := &Reader{conn: conn, opts: opts, buf: make([]byte, max(smallBuffer, len(rest)))}
	r.end = copy(r.buf, rest)
	return r
}

// Close gives memory back. It does not close the connection.
func (r *Reader) Close() {
	r.buf, r.spans, r.frames = nil, nil, nil
	r.charge(0)
}

// Buffered tells whether bytes beyond the current message were read.
func (r *Reader) Buffered() bool { return r.end > r.pos }

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
			if len(r.spans) == 0 { // it came between messages
				r.begin()
			}
			continue
		}
		r.whole = flags&flagMore == 0
		if len(r.spans) == cap(r.spans) {
			if err := r.charge(int64(len(r.buf)) + int64(2*cap(r.spans))*spanBytes); err != nil {
				return nil, err
			}
		}
		r.spans = append(r.spans, body)
		if r.whole {
			break
		}
	}
	r.frames = r.frames[:0]
	for _, s := range r.spans {
		r.frames = append(r.frames, r.buf[r.start+s.from:r.start+s.to:r.start+s.to])
	}
	return r.frames, nil
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
			r.start = 0
			return body, true, r.cutOff(r.readInto(body, got))
		}
		s, flags, err := r.frame()
		if err != nil {
			return nil, false, r.cutOff(err)
		}
		if flags&flagCommand != 0 {
			if err := r.command(s); err != nil {
				return nil, false, err
			}
			continue
		}
		return r.buf[r.start+s.from : r.start+s.to : r.start+s.to], false, nil
	}
}

// begin forgets the message before.
func (r *Reader) begin() {
	r.start = r.pos
	if r.pos == r.end {
		r.start, r.pos, r.end = 0, 0, 0
	}
	r.hasFrames, r.whole = 0, false
	r.begun, r.stepped = time.Time{}, 0
	if cap(r.spans) > 64<<10 {
		r.spans, r.frames = nil, nil
	}
	r.spans = r.spans[:0]
}

// cutOff tells an end between messages from one within.
func (r *Reader) cutOff(err error) error {
	if errors.Is(err, io.EOF) && (r.end > r.start || errors.Is(err, io.ErrUnexpectedEOF)) {
		return fmt.Errorf("the connection ended within a message, after %d bytes of it: %w", r.end-r.start, io.ErrUnexpectedEOF)
	}
	return err
}

func (r *Reader) command(s span) error {
	if r.opts.Command == nil {
		return nil
	}
	return r.opts.Command(r.buf[r.start+s.from : r.start+s.to])
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
		if err := r.fill(1); err != nil {
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
	if total := int64(r.pos - r.start + header + n); total > r.opts.MaxMessage {
		return 0, 0, 0, fmt.Errorf("%w: it has at least %d bytes, the limit is %d", ErrTooLarge, total, r.opts.MaxMessage)
	}
	return flags, n, header, nil
}

// frame reads the next frame.
func (r *Reader) frame() (span, byte, error) {
	flags, n, header, err := r.header()
	if err != nil {
		return span{}, 0, err
	}
	if r.hasFrames++; r.hasFrames > r.opts.MaxFrames {
		return span{}, 0, fmt.Errorf("%w: it has more than %d frames", ErrTooLarge, r.opts.MaxFrames)
	}
	for {
		missing := r.pos + header + n - r.end
		if missing <= 0 {
			break
		}
		if err := r.fill(missing); err != nil {
			return span{}, 0, err
		}
	}
	from := r.pos + header - r.start
	r.pos += header + n
	return span{from, from + n}, flags, nil
}

// fill reads more bytes, of which so many are known to be missing.
func (r *Reader) fill(missing int) error {
	if r.end == len(r.buf) {
		if err := r.makeRoom(missing); err != nil {
			return err
		}
	}
	for {
		shrinking, err := r.setDeadline(r.end - r.start)
		if err != nil {
			return err
		}
		n, err := r.conn.Read(r.buf[r.end:])
		if n > 0 {
			if r.begun.IsZero() && r.opts.Stall > 0 {
				r.begun = time.Now()
			}
			r.end += n
			return nil
		}
		if shrinking && errors.Is(err, os.ErrDeadlineExceeded) {
			// It is quiet now: another connection may need the memory more.
			r.buf, r.start, r.pos, r.end = make([]byte, smallBuffer), 0, 0, 0
			r.spans, r.frames = nil, nil
			if err := r.charge(0); err != nil {
				return err
			}
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

// makeRoom moves the message to the begin of the buffer, or makes it larger.
// What a frame says about its length makes it no larger than twice of what has
// arrived.
func (r *Reader) makeRoom(missing int) error {
	have := r.end - r.start
	if r.start > 0 && have <= len(r.buf)/2 {
		copy(r.buf, r.buf[r.start:r.end])
		r.pos, r.end, r.start = r.pos-r.start, have, 0
		return nil
	}
	size := max(2*have, firstGrowth)
	if exact := have + missing + smallBuffer; size > largeBuffer && missing > 1 {
		size = min(size, max(exact, largeBuffer))
	}
	// Both are there while one is copied to the other.
	if err := r.charge(int64(len(r.buf)) + int64(size) + int64(cap(r.spans))*spanBytes); err != nil {
		return err
	}
	buf := make([]byte, size)
	copy(buf, r.buf[r.start:r.end])
	r.buf = buf
	r.pos, r.end, r.start = r.pos-r.start, have, 0
	return r.charge(int64(size) + int64(cap(r.spans))*spanBytes)
}

// charge makes what the budget was charged with so many bytes. What a quiet
// connection has is free.
func (r *Reader) charge(bytes int64) error {
	if r.opts.Budget == nil {
		return nil
	}
	if bytes <= smallBuffer {
		bytes = 0
	}
	change := bytes - r.charged
	switch {
	case change > 0:
		if err := r.opts.Budget.Take(change); err != nil {
			return err
		}
	case change < 0:
		r.opts.Budget.Give(-change)
	}
	r.charged = bytes
	return nil
}
