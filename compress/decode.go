package compress

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/base/canceled"
)

// corruptError returns the error for damage in the frame at offset of a stored value.
func (s *Store) corruptError(offset int64, err error) error {
	return &partd.CorruptError{
		Path: "the value, stored in frames of " + string(s.format) + ",", Offset: offset, Err: err,
	}
}

func (s *Store) decompressValue(ctx context.Context, stored []byte) ([]byte, error) {
	size, err := s.claimedSize(ctx, stored)
	if err != nil {
		return nil, err
	}
	// The claimed size can be wrong. Allocate for a typical ratio and grow if the pieces
	// hold more.
	const typicalRatio = 32
	value := make([]byte, 0, min(size, typicalRatio*int64(len(stored))))
	err = s.eachPiece(ctx, stored, func(content []byte) (err error) {
		value, err = s.codec.decode(ctx, value, content)
		return err
	})
	if err != nil {
		return nil, err
	}
	return value, nil
}

// claimedSize returns the sum of the decompressed sizes in the headers of a value's pieces. Pieces
// without a size count as 0. It returns an error unless all frames are whole.
func (s *Store) claimedSize(ctx context.Context, stored []byte) (size int64, err error) {
	err = s.eachPiece(ctx, stored, func(content []byte) error {
		n, err := s.codec.measure(content[:min(headBytes, len(content))], int64(len(content)))
		size += max(n, 0) // unknownSize is negative
		return err
	})
	return size, err
}

// eachPiece calls f for the content of each frame of a stored value.
func (s *Store) eachPiece(ctx context.Context, stored []byte, f func(content []byte) error) error {
	offset := int64(0)
	for content, err := range frame.Split(stored) {
		switch {
		case err != nil:
		case len(content) == 0:
			err = errEmpty
		default:
			err = f(content)
			if err != nil {
				err = pieceError(len(content), err)
			}
		}
		if err := canceled.Err(ctx); err != nil {
			return err
		}
		if err != nil {
			return s.corruptError(offset, err)
		}
		offset += frame.HeaderLen + int64(len(content))
	}
	return nil
}

func pieceError[N int | int64](length N, err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("a piece of %d bytes: %w", length, err)
}

// maxPooled is the maximum capacity, in bytes, of a buffer to reuse.
const maxPooled = 4 << 20

// valueReader decompresses a stored value, piece by piece.
type valueReader struct {
	store  *Store
	stored nexter
	source
	pieceOffset int64 // offset of the current piece's frame
	pieceLen    int64 // length of the current piece's content
	piece       piece
	stream      io.ReadCloser // decompresses the current piece; nil if it is decompressed whole
	delivered   int64         // bytes that stream has returned
	undelivered []byte        // decompressed bytes that Read has not yet returned
	buffer      []byte        // memory for undelivered
	err         error         // first error, or io.EOF at the end
}

// decompress returns a *valueReader for a stored value. The layer closes the reader.
func (s *Store) decompress(ctx context.Context, _ string, stored io.Reader) io.Reader {
	r, ok := s.readers.Get().(*valueReader)
	if !ok {
		r = &valueReader{store: s}
		r.next = func() ([]byte, error) { return r.stored.Next() }
	}
	r.stored, r.err = stored.(nexter), nil
	r.source = source{ctx: ctx, next: r.next, joined: r.joined[:0]}
	return r
}

// nexter is implemented by the readers that a layer passes to Hooks.Out; see [storekit.Hooks].
type nexter interface{ Next() ([]byte, error) }

// Close makes r available for another value.
func (r *valueReader) Close() error {
	if r.stream != nil {
		_ = r.stream.Close() // cannot fail: it only reads
		r.stream = nil
	}
	r.stored, r.ctx, r.undelivered = nil, nil, nil
	if cap(r.buffer) > maxPooled {
		r.buffer = nil
	}
	if cap(r.joined) > maxPooled {
		r.joined = nil
	}
	r.store.readers.Put(r)
	return nil
}

// ReadAll returns the decompressed value. The layer calls it only for stored values in memory, which
// next returns as a whole.
func (r *valueReader) ReadAll() ([]byte, error) {
	stored, err := r.next()
	if err != nil && err != io.EOF {
		return nil, err
	}
	return r.store.decompressValue(r.ctx, stored)
}

// nextPiece reads the header of the next frame. It returns io.EOF at the end of the value.
func (r *valueReader) nextPiece() error {
	r.pieceOffset = r.offset
	header, err := r.peek(frame.HeaderLen)
	switch {
	case err != nil:
		return cmp.Or(canceled.Err(r.ctx), err)
	case len(header) == 0:
		return io.EOF
	case len(header) < frame.HeaderLen:
		return r.corruptError(fmt.Errorf("%w: %d of the %d bytes of a header", frame.ErrTruncated, len(header), frame.HeaderLen))
	}
	n := binary.LittleEndian.Uint64(header)
	// No format produces longer pieces, even from incompressible data.
	if maxLength := 1024 + r.store.limit + r.store.limit/6; n > uint64(maxLength) {
		return r.corruptError(fmt.Errorf("%w: %d bytes, the limit is %d", frame.ErrTooLong, n, maxLength))
	}
	r.skip(frame.HeaderLen)
	if n == 0 {
		return r.corruptError(errEmpty)
	}
	r.pieceLen, r.delivered = int64(n), 0
	r.piece = piece{source: &r.source, remaining: r.pieceLen}
	return nil
}

func (r *valueReader) corruptError(err error) error {
	return r.store.corruptError(r.pieceOffset, err)
}

// readError returns the error for a failure to decompress the current piece: the context's error if
// the context has ended, the underlying store's error if reading failed, and a corruptError
// otherwise.
func (r *valueReader) readError(err error) error {
	if err := canceled.Err(r.ctx); err != nil {
		return err
	}
	switch {
	case r.source.err != nil:
		return r.source.err
	case r.piece.truncated:
		return r.corruptError(fmt.Errorf("%w: %d of %d bytes", frame.ErrTruncated, r.pieceLen-r.piece.remaining, r.pieceLen))
	}
	return r.corruptError(pieceError(r.pieceLen, err))
}

func (r *valueReader) openPiece() error {
	if err := r.nextPiece(); err != nil {
		return err
	}
	claimedSize, err := r.piece.measure(r.store.codec)
	if err == nil {
		r.stream, err = r.store.codec.stream(&r.piece, claimedSize)
	}
	if err != nil {
		return r.readError(err)
	}
	if r.stream != nil {
		return r.readAhead()
	}
	content, err := r.piece.peekAll(r.pieceLen)
	if err != nil {
		return r.readError(err)
	}
	r.buffer, err = r.store.codec.decode(r.ctx, r.buffer[:0], content)
	if err != nil {
		return r.readError(err)
	}
	r.skip(int(r.pieceLen))
	r.undelivered = r.buffer
	return nil
}

// aheadBytes is the number of bytes of a piece that are decompressed before Read returns any of
// them. If the piece is not longer, its checksum is therefore checked before Read returns data.
const aheadBytes = 256 << 10

func (r *valueReader) readAhead() error {
	r.buffer = r.buffer[:0]
	for len(r.buffer) < aheadBytes && r.stream != nil {
		if len(r.buffer) == cap(r.buffer) {
			r.buffer = append(make([]byte, 0, min(max(4<<10, 8*len(r.buffer)), aheadBytes)), r.buffer...)
		}
		n := r.readStream(r.buffer[len(r.buffer):min(cap(r.buffer), aheadBytes)])
		r.buffer = r.buffer[:len(r.buffer)+n]
		if r.err != nil {
			return r.err
		}
	}
	r.undelivered = r.buffer
	return nil
}

// Read reads the decompressed value.
func (r *valueReader) Read(dst []byte) (int, error) {
	if r.err == nil {
		r.err = canceled.Err(r.ctx)
	}
	for len(dst) > 0 && r.err == nil {
		switch {
		case len(r.undelivered) > 0:
			n := copy(dst, r.undelivered)
			r.undelivered = r.undelivered[n:]
			return n, nil
		case r.stream == nil:
			r.err = r.openPiece()
		default:
			if n := r.readStream(dst); n > 0 {
				return n, nil
			}
		}
	}
	if len(dst) == 0 {
		return 0, nil
	}
	return 0, r.err
}

// readStream reads from r.stream and returns the number of bytes read. At the end or on failure,
// readStream closes the stream. It sets r.err only on failure.
func (r *valueReader) readStream(dst []byte) int {
	n, err := 0, canceled.Err(r.ctx)
	if err == nil {
		n, err = r.stream.Read(dst)
	}
	r.delivered += int64(n)
	switch {
	case r.delivered > r.store.limit:
		n, r.err = 0, r.corruptError(pieceError(r.pieceLen, fmt.Errorf("%w of %d bytes", errTooLong, r.store.limit)))
	case err != nil && err != io.EOF:
		r.err = r.readError(err)
	}
	if err != nil || r.err != nil {
		_ = r.stream.Close() // cannot fail: it only reads
		r.stream = nil
	}
	return n
}

// Size reads the value and returns its decompressed size. It decompresses only pieces that do
// not store their size.
func (r *valueReader) Size() (int64, error) {
	size := int64(0)
	for {
		err := r.nextPiece()
		if err == io.EOF {
			return size, nil
		}
		if err != nil {
			return 0, err
		}
		n, err := r.piece.measure(r.store.codec)
		if err != nil {
			return 0, r.readError(err)
		}
		if n != unknownSize {
			size += n
			if err := r.piece.discard(); err != nil {
				return 0, r.readError(err)
			}
			continue
		}
		r.stream, err = r.store.codec.stream(&r.piece, n)
		if err != nil {
			return 0, r.readError(err)
		}
		r.buffer = slices.Grow(r.buffer[:0], chunkBytes)
		for r.stream != nil && r.err == nil {
			size += int64(r.readStream(r.buffer[:chunkBytes]))
		}
		if r.err != nil {
			return 0, r.err
		}
	}
}
