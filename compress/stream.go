package compress

import (
	"fmt"
	"io"
	"slices"
	"sync"
)

// streamer decompresses pieces as they are read, by readers of a library that are
// used again.
type streamer struct {
	// open makes a reader of the library, and a function that makes it read
	// another piece. Both read from the same source.
	open func(from io.Reader) (r io.Reader, restart func() error, err error)
	pool sync.Pool // of *stream
}

// stream is one piece that is decompressed as it is read.
type stream struct {
	owner   *streamer
	reader  io.Reader // of the library
	restart func() error
	from    feed

	want, got int64 // bytes that the header says, and that were delivered
}

// feed is what a reader of the library reads: a piece, or nothing once the piece
// is closed.
type feed struct{ *piece }

var noPiece = &piece{}

// stream begins to decompress a piece that says that it has want bytes. Close
// gives the memory back.
func (s *streamer) stream(p *piece, want int64) (io.ReadCloser, error) {
	d, _ := s.pool.Get().(*stream)
	if d == nil {
		d = &stream{owner: s, from: feed{noPiece}}
		var err error
		if d.reader, d.restart, err = s.open(&d.from); err != nil {
			return nil, err
		}
	}
	d.from.piece, d.want, d.got = p, want, 0
	if err := d.restart(); err != nil {
		d.release()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return d, nil
}

func (d *stream) Read(dst []byte) (int, error) {
	n, err := d.reader.Read(dst)
	d.got += int64(n)
	if err == io.EOF && d.from.left > 0 {
		err = errTrailing
	}
	if d.want != unknown && (d.got > d.want || err == io.EOF && d.got < d.want) {
		err = fmt.Errorf("%w: %d bytes instead of %d", errTrailing, d.got, d.want)
	}
	return n, err
}

func (d *stream) Close() error {
	d.release()
	return nil
}

func (d *stream) release() {
	d.from.piece = noPiece
	d.owner.pool.Put(d)
}

// openStream begins to decompress a piece, or returns nil where the format has
// no streams.
func openStream(c codec, p *piece) (io.ReadCloser, error) {
	want, err := p.measure(c)
	if err != nil {
		return nil, err
	}
	return c.stream(p, want)
}

// decodeStream is decode for a piece that is decompressed as it is read.
func decodeStream(c codec, dst, content []byte, limit int64) ([]byte, error) {
	src := source{buf: content, ended: true}
	s, err := openStream(c, &piece{source: &src, left: int64(len(content))})
	if err != nil {
		return dst, err
	}
	defer s.Close()
	return readPiece(dst, s, limit)
}

// partBytes is how much of a piece of unknown size is gathered at a time.
const partBytes = 64 << 10

// readPiece appends all that a stream delivers to dst, limit bytes at most.
// Memory is taken as bytes arrive, and dst grows once where they are many.
func readPiece(dst []byte, r io.Reader, limit int64) ([]byte, error) {
	start, total := len(dst), int64(0)
	var parts [][]byte
	part, first := dst, true // dst itself, up to partBytes of the piece
	for {
		if len(part) == cap(part) {
			if first && total < partBytes {
				part = slices.Grow(part, int(max(1<<10, 3*total)))
			} else {
				if !first {
					parts = append(parts, part)
				} else {
					dst, first = part, false
				}
				part = make([]byte, 0, min(partBytes, limit+1-total))
			}
		}
		n, err := r.Read(part[len(part):min(int64(cap(part)), int64(len(part))+limit+1-total)])
		part = part[:len(part)+n]
		if total += int64(n); total > limit {
			return dst[:start], fmt.Errorf("%w of %d bytes", errTooLong, limit)
		}
		if err != nil && err != io.EOF {
			return dst[:start], err
		}
		if err == nil {
			continue
		}
		if first {
			return part, nil
		}
		dst = slices.Grow(dst, int(total)-(len(dst)-start))
		for _, p := range append(parts, part) {
			dst = append(dst, p...)
		}
		return dst, nil
	}
}
