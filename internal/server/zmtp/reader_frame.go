package zmtp

import (
	"encoding/binary"
	"fmt"
	"runtime"
)

// parseHeader returns the flags of the next frame, the length n of its body, and the length of its
// header. It does not consume the header.
func (r *Reader) parseHeader() (flags byte, n, header int, err error) {
	r.headerCount++
	if r.headerCount%framesPerTurn == 0 {
		runtime.Gosched() // let other goroutines run, because a buffer full of empty frames takes long to process
	}
	for {
		b := r.buf[r.pos:r.end]
		if len(b) > 0 && b[0]&flagReserved != 0 {
			return 0, 0, 0, protocolErrorf("a frame with reserved flags %#02x", b[0])
		}
		if len(b) >= 2 && b[0]&flagLong == 0 {
			flags, n, header = b[0], int(b[1]), 2
			break
		}
		if len(b) >= maxHeaderLen {
			size := binary.BigEndian.Uint64(b[1:])
			// The limit also ensures that size fits in an int.
			if size > uint64(r.opts.MaxMessage) {
				return 0, 0, 0, fmt.Errorf("%w: a frame announces %d bytes, but the limit is %d", ErrTooLarge, size, r.opts.MaxMessage)
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
			return 0, 0, 0, protocolErrorf("a command of several frames")
		}
		if n > r.maxCommand {
			return 0, 0, 0, protocolErrorf("a command of %d bytes, but the limit is %d", n, r.maxCommand)
		}
	}
	if total := int64(r.bytesBefore + header + n); total > r.opts.MaxMessage {
		return 0, 0, 0, fmt.Errorf("%w: it has at least %d bytes, but the limit is %d", ErrTooLarge, total, r.opts.MaxMessage)
	}
	return flags, n, header, nil
}

func (r *Reader) readFrame() (body []byte, flags byte, err error) {
	flags, n, header, err := r.parseHeader()
	if err != nil {
		return nil, 0, err
	}
	r.frameCount++
	if r.frameCount > r.opts.MaxFrames {
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
	r.bytesBefore += header + n
	return r.buf[from:r.pos:r.pos], flags, nil
}
