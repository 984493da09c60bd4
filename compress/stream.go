package compress

import (
	"fmt"
	"io"
	"slices"
	"sync"
)

// source delivers the stored bytes of one value, from memory or from a reader.
type source struct {
	next   func() ([]byte, error) // returns more bytes, valid until the next call; io.EOF at the end
	buf    []byte                 // bytes that next delivered and nobody has read
	joined []byte                 // memory for buf, if its bytes came from several calls of next
	offset int64                  // of buf in the value
	err    error                  // of next, except io.EOF
	ended  bool
}

// refill replaces an empty buf with the next bytes.
func (s *source) refill() error {
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

// peek returns the next n bytes without skipping them, or fewer at the end of the
// value. Memory grows with the bytes that arrive.
func (s *source) peek(n int) ([]byte, error) {
	for len(s.buf) < n {
		s.joined = append(s.joined[:0], s.buf...) // buf may already be in joined
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

// skip removes the first n bytes of buf.
func (s *source) skip(n int) {
	s.buf = s.buf[n:]
	s.offset += int64(n)
}

// piece reads one piece of a value.
type piece struct {
	*source
	left int64 // unread bytes of the piece, according to its frame
	cut  bool  // the value ended within the piece
}

// Read reads from the rest of the piece.
func (p *piece) Read(dst []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if len(dst) == 0 {
		return 0, nil
	}
	if err := p.refill(); err != nil {
		return 0, p.noteCut(err)
	}
	n := int(min(int64(len(dst)), int64(len(p.buf)), p.left))
	copy(dst, p.buf[:n])
	p.skip(n)
	p.left -= int64(n)
	return n, nil
}

// ReadByte keeps bit readers from buffering bytes beyond the end of the compressed data.
func (p *piece) ReadByte() (byte, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if err := p.refill(); err != nil {
		return 0, p.noteCut(err)
	}
	b := p.buf[0]
	p.skip(1)
	p.left--
	return b, nil
}

// measure returns the decompressed size that the piece claims, or unknown.
func (p *piece) measure(c codec) (int64, error) {
	head, err := p.peekAll(min(int64(headBytes), p.left))
	if err != nil {
		return 0, err
	}
	return c.measure(head, p.left)
}

// peekAll returns the next n bytes of the piece, without skipping them.
func (p *piece) peekAll(n int64) ([]byte, error) {
	data, err := p.peek(int(n))
	if err == nil && int64(len(data)) < n {
		return nil, p.noteCut(io.EOF)
	}
	return data, err
}

// discard skips the rest of the piece.
func (p *piece) discard() error {
	for p.left > 0 {
		if err := p.refill(); err != nil {
			return p.noteCut(err)
		}
		n := int(min(p.left, int64(len(p.buf))))
		p.skip(n)
		p.left -= int64(n)
	}
	return nil
}

// noteCut turns the end of the value, within the piece, into io.ErrUnexpectedEOF.
func (p *piece) noteCut(err error) error {
	if err == io.EOF {
		p.cut = true
		return io.ErrUnexpectedEOF
	}
	return err
}

// streamer decompresses pieces as they are read, with a library's readers, which it
// reuses.
type streamer struct {
	// open returns a reader of the library that reads from from, and a function that
	// prepares it for another piece.
	open func(from io.Reader) (r io.Reader, restart func() error, err error)
	pool sync.Pool // of *stream
}

// stream decompresses one piece as it is read.
type stream struct {
	owner   *streamer
	reader  io.Reader // of the library
	restart func() error
	from    feed

	want int64 // decompressed size that the header claims, or unknown
	got  int64 // bytes delivered
}

// feed is the input of the library's reader: the current piece, or noPiece once the
// stream is closed.
type feed struct{ *piece }

var noPiece = &piece{}

// stream starts to decompress a piece that claims want bytes. The caller must close the
// result.
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

// openStream starts to decompress a piece, or returns nil if the format has no streams.
func openStream(c codec, p *piece) (io.ReadCloser, error) {
	want, err := p.measure(c)
	if err != nil {
		return nil, err
	}
	return c.stream(p, want)
}

// decodeStream implements codec.decode with a stream.
func decodeStream(c codec, dst, content []byte, limit int64) ([]byte, error) {
	src := source{buf: content, ended: true}
	s, err := openStream(c, &piece{source: &src, left: int64(len(content))})
	if err != nil {
		return dst, err
	}
	defer s.Close()
	return readPiece(dst, s, limit)
}

// partBytes is the size of the buffers for a piece of unknown size.
const partBytes = 64 << 10

// readPiece appends the content of r to dst, at most limit bytes. It allocates as bytes
// arrive. The first partBytes go to dst itself, and all others to parts, which are copied
// to dst at the end, so that dst grows only once.
func readPiece(dst []byte, r io.Reader, limit int64) ([]byte, error) {
	start, total := len(dst), int64(0)
	var parts [][]byte
	part, first := dst, true
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
