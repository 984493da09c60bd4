package zmtp

import (
	"errors"
	"io"
	"os"
	"time"
)

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

// Budget is what memory is taken from.
type Budget interface {
	// Take takes bytes, or says why not. It may wait. With whole, the message
	// needs no more than these, so that who waits for them holds up nobody.
	Take(bytes int64, whole bool) error
	// Give gives bytes back.
	Give(bytes int64)
	// Crowded reports whether others may soon want what is kept for the next message.
	Crowded() bool
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

// held is what the buffers and frames take.
func (r *Reader) held() int64 { return int64(r.older + len(r.buf) + cap(r.frames)*frameBytes) }
