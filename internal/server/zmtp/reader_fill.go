package zmtp

import (
	"errors"
	"os"
	"time"
)

// fill reads more bytes into the buffer, perhaps fewer than the frame needs. missing is the minimum
// number of bytes that the frame still needs; last reports whether they complete the message.
func (r *Reader) fill(missing int, last bool) error {
	if r.end == len(r.buf) {
		if err := r.growBuffer(missing, last); err != nil {
			return err
		}
	}
	for {
		mustShrink, err := r.setDeadline()
		if err != nil {
			return err
		}
		n, err := r.conn.Read(r.buf[r.end:])
		if n > 0 {
			if r.stepStart.IsZero() && r.opts.Stall > 0 {
				r.stepStart = time.Now()
			}
			r.end += n
			r.received.Add(int64(n))
			return nil
		}
		if mustShrink && errors.Is(err, os.ErrDeadlineExceeded) {
			r.buf, r.pos, r.end, r.frames = make([]byte, smallBuffer), 0, 0, nil
			r.release(0)
			continue
		}
		if err != nil {
			return err
		}
	}
}

// setDeadline sets the deadline of the next read. mustShrink reports whether the caller must shrink
// the buffer when this deadline passes.
func (r *Reader) setDeadline() (mustShrink bool, err error) {
	var deadline time.Time
	partial := r.partialBytes()
	switch {
	case partial > 0 && r.opts.Stall > 0:
		if r.stepStart.IsZero() || partial-r.stepBytesBefore >= stepSize {
			r.stepStart, r.stepBytesBefore = time.Now(), partial
		}
		deadline = r.stepStart.Add(r.opts.Stall + time.Duration(partial-r.stepBytesBefore)*time.Second/MinRate)
	case partial == 0 && len(r.buf) > smallBuffer:
		deadline, mustShrink = time.Now().Add(keepTime), true
	case partial == 0 && r.opts.Idle > 0:
		deadline = time.Now().Add(r.opts.Idle)
	}
	if !deadline.IsZero() || r.hasDeadline {
		if err := r.conn.SetReadDeadline(deadline); err != nil {
			return false, err
		}
		r.hasDeadline = !deadline.IsZero()
	}
	if r.opts.Wait != nil {
		return mustShrink, r.opts.Wait()
	}
	return mustShrink, nil
}

// Budget limits the total memory of many readers.
type Budget interface {
	// Take reserves memory. It may wait until the memory is available. If whole is true, the message
	// needs no further memory, so waiting for the end of the message cannot deadlock.
	Take(bytes int64, whole bool) error
	// Release returns reserved bytes.
	Release(bytes int64)
	// Crowded reports whether memory is short, so that readers should not keep large buffers.
	Crowded() bool
}

// growBuffer enlarges the buffer for the current frame; missing is the minimum number of bytes that
// the frame still needs. If there is a budget, it first enlarges the buffer only a little, even if
// the header announces a long frame. After a part of the message has arrived, it reserves memory
// for the whole frame, because readers that each have half a frame could otherwise wait for each
// other.
func (r *Reader) growBuffer(missing int, last bool) error {
	partial := r.end - r.pos
	if r.pos > 0 && len(r.frames) == 0 && partial+missing <= len(r.buf) && partial <= len(r.buf)/2 {
		r.end = copy(r.buf, r.buf[r.pos:r.end])
		r.pos = 0
		return nil
	}
	size := max(firstGrowth, min(2*len(r.buf), maxKeptBuffer))
	if r.opts.Budget == nil || r.partialBytes() >= firstGrowth/2 {
		size = max(size, partial+missing+smallBuffer) // leave room for some bytes after the frame
	}
	older := r.olderBytes
	if len(r.frames) > 0 {
		older += len(r.buf)
	}
	isWhole := last && len(r.frames) == 0 && partial+missing <= size
	// The old buffer is not charged unless frames refer to it, because it is released after the copy.
	if err := r.charge(int64(older+size+cap(r.frames)*frameBytes), isWhole); err != nil {
		return err
	}
	r.replaceBuffer(size)
	r.olderBytes = older
	return nil
}

// charge changes the number of bytes that the reader has reserved in the budget. Time spent waiting
// for memory does not count as a stall. whole is the argument for Budget.Take.
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
		if !r.stepStart.IsZero() {
			r.stepStart, r.stepBytesBefore = time.Now(), r.partialBytes()
		}
	case change < 0:
		r.opts.Budget.Release(-change)
	}
	r.charged = bytes
	return nil
}

func (r *Reader) release(bytes int64) { _ = r.charge(min(bytes, r.charged), true) } // charge fails only for an increase

func (r *Reader) heldBytes() int64 {
	return int64(r.olderBytes + len(r.buf) + cap(r.frames)*frameBytes)
}
