package zmtp

import (
	"math"
	"time"
)

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
