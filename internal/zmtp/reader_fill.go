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
