package zmtp

import (
	"errors"
	"io"
	"os"
	"time"
)

// fill reads more bytes into the buffer. At least missing bytes are still needed; last
// says that they end the message.
func (r *Reader) fill(missing int, last bool) error {
	if r.end == len(r.buf) {
		if err := r.makeRoom(missing, last); err != nil {
			return err
		}
	}
	for {
		shrinking, err := r.setDeadline(r.partialBytes())
		if err != nil {
			return err
		}
		n, err := r.conn.Read(r.buf[r.end:])
		if n > 0 {
			if r.start.IsZero() && r.opts.Stall > 0 {
				r.start = time.Now()
			}
			r.end += n
			r.received.Add(int64(n))
			return nil
		}
		if shrinking && errors.Is(err, os.ErrDeadlineExceeded) {
			// The connection is quiet now, and another one may need the memory more.
			r.buf, r.pos, r.end, r.frames = make([]byte, smallBuffer), 0, 0, nil
			r.release(0)
			continue
		}
		if err != nil {
			return err
		}
	}
}

// readInto reads the rest of body, which already has the first n bytes.
func (r *Reader) readInto(body []byte, n int) error {
	for n < len(body) {
		if _, err := r.setDeadline(max(n, 1)); err != nil {
			return err
		}
		m, err := r.conn.Read(body[n:])
		if m > 0 && r.start.IsZero() {
			r.start = time.Now()
		}
		n += m
		if err != nil && n < len(body) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// setDeadline limits the next read, given the number of bytes of the message that have arrived.
func (r *Reader) setDeadline(partial int) (shrinking bool, err error) {
	var deadline time.Time
	switch {
	case partial > 0 && r.opts.Stall > 0:
		if r.start.IsZero() || partial-r.stepped >= stepBytes {
			r.start, r.stepped = time.Now(), partial
		}
		deadline = r.start.Add(r.opts.Stall + time.Duration(partial-r.stepped)*time.Second/MinRate)
	case partial == 0 && len(r.buf) > smallBuffer:
		deadline, shrinking = time.Now().Add(keepBusy), true
	case partial == 0 && r.opts.Idle > 0:
		deadline = time.Now().Add(r.opts.Idle)
	}
	if !deadline.IsZero() || r.deadlineOn {
		if err := r.conn.SetReadDeadline(deadline); err != nil {
			return false, err
		}
		r.deadlineOn = !deadline.IsZero()
	}
	if r.opts.Wait != nil {
		return shrinking, r.opts.Wait()
	}
	return shrinking, nil
}

// Budget limits the memory of many readers together.
type Budget interface {
	// Take takes bytes, or returns an error. It may wait. With whole, the message needs
	// no more than this, so waiting for it blocks nobody else.
	Take(bytes int64, whole bool) error
	// Release returns bytes.
	Release(bytes int64)
	// Crowded reports whether others may soon need the memory that is kept for the next message.
	Crowded() bool
}

// makeRoom enlarges the buffer for the current frame, of which at least missing bytes
// are still to come. Once part of the message has arrived, it takes all that the header
// announces: otherwise readers with half a frame each could wait for each other. Before
// that, a large claim takes little.
func (r *Reader) makeRoom(missing int, last bool) error {
	part := r.end - r.pos
	if r.pos > 0 && len(r.frames) == 0 && part+missing <= len(r.buf) && part <= len(r.buf)/2 {
		r.end = copy(r.buf, r.buf[r.pos:r.end])
		r.pos = 0
		return nil
	}
	size := max(firstGrowth, min(2*len(r.buf), keepBuffer))
	if r.partialBytes() >= firstGrowth/2 {
		size = max(size, part+missing+smallBuffer) // what follows is usually small
	}
	older := r.older
	if len(r.frames) > 0 {
		older += len(r.buf)
	}
	isWhole := last && len(r.frames) == 0 && part+missing <= size
	// The bytes held now have all arrived; the old buffer is released after the copy.
	if err := r.charge(int64(older+size+cap(r.frames)*frameBytes), isWhole); err != nil {
		return err
	}
	buf := make([]byte, size)
	r.end = copy(buf, r.buf[r.pos:r.end])
	r.buf, r.pos, r.older = buf, 0, older
	return nil
}

// charge changes the charge to the budget to this number of bytes. The buffer of a quiet
// connection is free. The time of waiting for memory does not count against the peer.
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
		if !r.start.IsZero() {
			r.start, r.stepped = time.Now(), r.partialBytes()
		}
	case change < 0:
		r.opts.Budget.Release(-change)
	}
	r.charged = bytes
	return nil
}

// release lowers the charge, which cannot fail.
func (r *Reader) release(bytes int64) { _ = r.charge(min(bytes, r.charged), true) }

func (r *Reader) heldBytes() int64 { return int64(r.older + len(r.buf) + cap(r.frames)*frameBytes) }
