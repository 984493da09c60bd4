package compress

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/go-partd/partd/internal/base/canceled"
)

// source reads the stored bytes of one value.
type source struct {
	ctx    context.Context        // reading stops when it ends
	next   func() ([]byte, error) // returns more bytes, valid until the next call, or io.EOF
	buf    []byte                 // bytes from next that have not been read
	joined []byte                 // memory for buf if its bytes came from several calls to next
	copied int64                  // bytes copied to joined so far, for tests
	offset int64                  // offset of buf in the value
	err    error                  // error that next returned, except io.EOF
	atEnd  bool                   // next has returned io.EOF
}

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
	case s.atEnd:
		return nil, io.EOF
	}
	s.err = canceled.Err(s.ctx)
	if s.err != nil {
		return nil, s.err
	}
	data, err := s.next()
	switch {
	case err == io.EOF:
		s.atEnd = true
	case err != nil:
		s.err = err
	}
	return data, err
}

// peek returns the next n bytes without skipping them, or fewer at the end of the value.
// Memory grows only as bytes arrive, because a damaged header can claim any length.
func (s *source) peek(n int) ([]byte, error) {
	if len(s.buf) < n {
		s.join(s.joined[:0], s.buf) // correct even if buf is a part of joined
	}
	for len(s.buf) < n {
		data, err := s.fetch()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		s.join(s.buf, data)
	}
	return s.buf[:min(n, len(s.buf))], nil
}

// join sets buf to head, which is a part of joined, and a copy of tail.
func (s *source) join(head, tail []byte) {
	s.copied += int64(len(tail))
	if cap(head) < len(head)+len(tail) {
		s.copied += int64(len(head))
	}
	s.joined = append(head, tail...)
	s.buf = s.joined
}

func (s *source) skip(n int) {
	s.buf = s.buf[n:]
	s.offset += int64(n)
}

// piece reads one piece of a value.
type piece struct {
	*source
	remaining int64 // unread bytes of the piece, according to its frame
	truncated bool  // the value ended within the piece
}

// Read reads the remaining bytes of the piece.
func (p *piece) Read(dst []byte) (int, error) {
	if p.remaining == 0 {
		return 0, io.EOF
	}
	if len(dst) == 0 {
		return 0, nil
	}
	if err := p.refill(); err != nil {
		return 0, p.checkTruncated(err)
	}
	n := int(min(int64(len(dst)), int64(len(p.buf)), p.remaining))
	copy(dst, p.buf[:n])
	p.skip(n)
	p.remaining -= int64(n)
	return n, nil
}

// ReadByte implements io.ByteReader. Without it, decompressors would buffer the input and
// read beyond the end of the compressed data.
func (p *piece) ReadByte() (byte, error) {
	if p.remaining == 0 {
		return 0, io.EOF
	}
	if err := p.refill(); err != nil {
		return 0, p.checkTruncated(err)
	}
	b := p.buf[0]
	p.skip(1)
	p.remaining--
	return b, nil
}

// measure calls codec.measure for an unread piece.
func (p *piece) measure(c codec) (int64, error) {
	header, err := p.peekAll(min(int64(headBytes), p.remaining))
	if err != nil {
		return 0, err
	}
	return c.measure(header, p.remaining)
}

func (p *piece) peekAll(n int64) ([]byte, error) {
	data, err := p.peek(int(n))
	if err == nil && int64(len(data)) < n {
		return nil, p.checkTruncated(io.EOF)
	}
	return data, err
}

func (p *piece) discard() error {
	for p.remaining > 0 {
		if err := p.refill(); err != nil {
			return p.checkTruncated(err)
		}
		n := int(min(p.remaining, int64(len(p.buf))))
		p.skip(n)
		p.remaining -= int64(n)
	}
	return nil
}

// checkTruncated handles an error from the source. io.EOF means that the value ended within the
// piece, so checkTruncated returns io.ErrUnexpectedEOF instead.
func (p *piece) checkTruncated(err error) error {
	if err == io.EOF {
		p.truncated = true
		return io.ErrUnexpectedEOF
	}
	return err
}

// streamer decompresses pieces in parts. It reuses the readers of a compression library.
type streamer struct {
	limit int64 // maximum decompressed size of a piece
	// newReader returns a library's reader of input, and a function that prepares the
	// reader for another piece.
	newReader func(input io.Reader) (r io.Reader, restart func() error, err error)
	pool      sync.Pool // holds *stream values
}

// stream decompresses one piece.
type stream struct {
	owner   *streamer
	reader  io.Reader    // reader from the compression library
	restart func() error // prepares reader for another piece
	input   pieceInput

	claimedSize int64 // decompressed size that the header claims, or unknownSize
	delivered   int64 // number of bytes that Read has returned
}

// pieceInput reads the current piece, or noPiece if the stream is closed.
type pieceInput struct{ *piece }

var noPiece = &piece{}

// stream implements codec.stream. The caller must close the result.
func (s *streamer) stream(p *piece, claimedSize int64) (io.ReadCloser, error) {
	d, _ := s.pool.Get().(*stream)
	if d == nil {
		d = &stream{owner: s, input: pieceInput{noPiece}}
		var err error
		d.reader, d.restart, err = s.newReader(&d.input)
		if err != nil {
			return nil, err
		}
	}
	d.input.piece, d.claimedSize, d.delivered = p, claimedSize, 0
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
	d.delivered += int64(n)
	if err == io.EOF && d.input.remaining > 0 {
		err = errTrailing
	}
	if d.claimedSize != unknownSize && (d.delivered > d.claimedSize || err == io.EOF && d.delivered < d.claimedSize) {
		err = wrongSizeError(d.delivered, d.claimedSize)
	}
	return n, err
}

func (d *stream) Close() error {
	d.release()
	return nil
}

func (d *stream) release() {
	d.input.piece = noPiece
	d.owner.pool.Put(d)
}

// measure implements codec.measure for formats that do not store the size, or only at the end.
func (s *streamer) measure([]byte, int64) (int64, error) { return unknownSize, nil }

// decode implements codec.decode for formats whose header does not store the size.
func (s *streamer) decode(ctx context.Context, dst, content []byte) ([]byte, error) {
	return s.decodeStream(ctx, dst, content, unknownSize)
}

// decodeStream appends the decompressed piece content to dst. claimedSize is the result of measure.
func (s *streamer) decodeStream(ctx context.Context, dst, content []byte, claimedSize int64) ([]byte, error) {
	src := source{ctx: ctx, buf: content, atEnd: true}
	r, err := s.stream(&piece{source: &src, remaining: int64(len(content))}, claimedSize)
	if err != nil {
		return dst, err
	}
	defer r.Close()
	return readPiece(ctx, dst, r, s.limit)
}

const chunkBytes = 64 << 10 // size of the chunks of readPiece

// readPiece appends the content of r to dst. It returns an error if the content exceeds limit bytes.
// It reads directly into dst while dst has room, and grows it only for the first chunkBytes. It
// collects further bytes in separate chunks and then grows dst once for all of them.
func readPiece(ctx context.Context, dst []byte, r io.Reader, limit int64) ([]byte, error) {
	start, total := len(dst), int64(0)
	var chunks [][]byte
	chunk, inDst := dst, true
	for {
		if err := canceled.Err(ctx); err != nil {
			return dst[:start], err
		}
		if len(chunk) == cap(chunk) {
			if inDst && total < chunkBytes {
				chunk = slices.Grow(chunk, int(max(1<<10, 3*total)))
			} else {
				if !inDst {
					chunks = append(chunks, chunk)
				} else {
					dst, inDst = chunk, false
				}
				chunk = make([]byte, 0, min(chunkBytes, limit+1-total))
			}
		}
		n, err := r.Read(chunk[len(chunk):min(int64(cap(chunk)), int64(len(chunk))+limit+1-total)])
		chunk = chunk[:len(chunk)+n]
		total += int64(n)
		if total > limit {
			return dst[:start], fmt.Errorf("%w of %d bytes", errTooLong, limit)
		}
		if err != nil && err != io.EOF {
			return dst[:start], err
		}
		if err == nil {
			continue
		}
		if inDst {
			return chunk, nil
		}
		dst = slices.Grow(dst, int(total)-(len(dst)-start))
		for _, p := range append(chunks, chunk) {
			dst = append(dst, p...)
		}
		return dst, nil
	}
}
