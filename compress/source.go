package compress

import "io"

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
