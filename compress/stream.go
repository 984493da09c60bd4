package compress

import (
	"fmt"
	"io"
	"slices"
	"sync"
)

// source delivers the stored bytes of one value, from memory or as they are
// read.
type source struct {
	next   func() ([]byte, error) // more bytes, good until the next call; io.EOF at the end
	buf    []byte                 // bytes delivered and not used yet
	joined []byte                 // memory for those that came in several parts
	offset int64                  // of buf in the value
	err    error                  // of next, but for io.EOF
	ended  bool
}

// more replaces an empty buf by the next bytes.
func (s *source) more() error {
	for len(s.buf) == 0 {
		data, err := s.fetch()
		if err != nil {
			return err
		}
		s.buf = data
	}
	return nil
}

func (s *source) fetch() ([]byte, error) {
	switch {
	case s.err != nil:
		return nil, s.err
	case s.ended:
		return nil, io.EOF
	}
	data, err := s.next()
	switch {
	case err == io.EOF:
		s.ended = true
	case err != nil:
		s.err = err
	}
	return data, err
}

// peek returns the next n bytes without using them, fewer at the end of the
// value. Memory grows with what arrives.
func (s *source) peek(n int) ([]byte, error) {
	for len(s.buf) < n {
		s.joined = append(s.joined[:0], s.buf...) // which may lie in it already
		data, err := s.fetch()
		if err == io.EOF {
			s.buf = s.joined
			break
		}
		if err != nil {
			return nil, err
		}
		s.joined = append(s.joined, data...)
		s.buf = s.joined
	}
	return s.buf[:min(n, len(s.buf))], nil
}

// use takes n bytes of buf away.
func (s *source) use(n int) {
	s.buf = s.buf[n:]
	s.offset += int64(n)
}

// piece is one piece of a value, whose length its frame tells.
type piece struct {
	*source
	left int64
	cut  bool // the value ended within the piece
}

// Read reads what is left of the piece.
func (p *piece) Read(dst []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if len(dst) == 0 {
		return 0, nil
	}
	if err := p.more(); err != nil {
		return 0, p.short(err)
	}
	n := int(min(int64(len(dst)), int64(len(p.buf)), p.left))
	copy(dst, p.buf[:n])
	p.use(n)
	p.left -= int64(n)
	return n, nil
}

// ReadByte makes readers of bits read no further than they must.
func (p *piece) ReadByte() (byte, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if err := p.more(); err != nil {
		return 0, p.short(err)
	}
	b := p.buf[0]
	p.use(1)
	p.left--
	return b, nil
}

// measure returns what the piece says that it decompresses to, or unknown.
func (p *piece) measure(c codec) (int64, error) {
	head, err := p.whole(min(int64(headBytes), p.left))
	if err != nil {
		return 0, err
	}
	return c.measure(head, p.left)
}

// whole returns the first n bytes of what is left.
func (p *piece) whole(n int64) ([]byte, error) {
	data, err := p.peek(int(n))
	if err == nil && int64(len(data)) < n {
		return nil, p.short(io.EOF)
	}
	return data, err
}

// drop leaves out what is left.
func (p *piece) drop() error {
	for p.left > 0 {
		if err := p.more(); err != nil {
			return p.short(err)
		}
		n := int(min(p.left, int64(len(p.buf))))
		p.use(n)
		p.left -= int64(n)
	}
	return nil
}

// short turns the end of the value into an error, as the piece goes on.
func (p *piece) short(err error) error {
	if err == io.EOF {
		p.cut = true
		return io.ErrUnexpectedEOF
	}
	return err
}

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
