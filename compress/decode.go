package compress

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
)

// corrupt returns the error for a stored value that is damaged at offset, where
// a frame begins.
func (s *Store) corrupt(op, key string, offset int64, err error) error {
	return &partd.Error{Op: op, Key: key, HasKey: true, Path: s.name(), Err: &partd.CorruptError{
		Path: "the value, stored in frames of " + string(s.format) + ",", Offset: offset, Err: err,
	}}
}

// decompressed returns what stored values decompress to, or an error and
// nothing.
func (s *Store) decompressed(ctx context.Context, op string, keys []string, stored [][]byte) ([][]byte, error) {
	total := 0
	for _, v := range stored {
		total += len(v)
	}
	values := make([][]byte, len(stored))
	workers := min(len(stored), total/shareBytes, runtime.GOMAXPROCS(0))
	err := s.parallelDo(ctx, op, workers, len(stored), func(_, i int) (err error) {
		values[i], err = s.value(op, keys[i], stored[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

// value returns what one stored value decompresses to.
func (s *Store) value(op, key string, stored []byte) ([]byte, error) {
	size, err := s.claimed(op, key, stored)
	if err != nil {
		return nil, err
	}
	// Each claim can be true, and all of them be lies: what is taken at once is
	// what bytes usually become, and more as pieces prove to hold it.
	const usual = 32
	value := make([]byte, 0, min(size, usual*int64(len(stored))))
	offset := int64(0)
	for content, err := range frame.Split(stored) {
		if err != nil {
			return nil, s.corrupt(op, key, offset, err)
		}
		if value, err = s.codec.decode(value, content); err != nil {
			return nil, s.corrupt(op, key, offset, inPiece(len(content), err))
		}
		offset += frame.HeaderLen + int64(len(content))
	}
	return value, nil
}

// claimed returns the sum of what the pieces of a value say of their sizes, as
// far as they do. Nothing is decompressed before all frames are found whole.
func (s *Store) claimed(op, key string, stored []byte) (int64, error) {
	size, offset := int64(0), int64(0)
	for content, err := range frame.Split(stored) {
		if err != nil {
			return 0, s.corrupt(op, key, offset, err)
		}
		if len(content) == 0 {
			return 0, s.corrupt(op, key, offset, errNothing)
		}
		n, err := s.codec.measure(content[:min(headBytes, len(content))], int64(len(content)))
		if err != nil {
			return 0, s.corrupt(op, key, offset, inPiece(len(content), err))
		}
		if n != unknown {
			size += n
		}
		offset += frame.HeaderLen + int64(len(content))
	}
	return size, nil
}

// inPiece adds to an error how long the piece is.
func inPiece[N int | int64](length N, err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("a piece of %d bytes: %w", length, err)
}

// valueReader reads a stored value piece by piece as it arrives.
type valueReader struct {
	store   *Store
	op, key string
	source
	begin  int64 // offset of the frame of the piece that is read
	length int64 // of its content
	piece  piece
	stream io.ReadCloser // of the piece, while it is decompressed as it is read
	got    int64         // bytes of it
	rest   []byte        // of a piece decompressed whole
	whole  []byte        // memory for it
	err    error         // once there was one, and io.EOF at the end
}

// start makes the reader read another value.
func (r *valueReader) start(op, key string, next func() ([]byte, error)) {
	r.stop()
	r.op, r.key, r.err = op, key, nil
	r.source = source{next: next, joined: r.source.joined[:0]}
}

// stop gives the memory of a stream back.
func (r *valueReader) stop() {
	if r.stream != nil {
		_ = r.stream.Close() // it is only read
		r.stream = nil
	}
	r.rest = nil
	if cap(r.whole) > maxPooled {
		r.whole = nil
	}
	if cap(r.joined) > maxPooled {
		r.joined = nil
	}
}

// nextPiece reads the header of the next frame; io.EOF is the end of the value.
func (r *valueReader) nextPiece() error {
	r.begin = r.offset
	head, err := r.peek(frame.HeaderLen)
	switch {
	case err != nil:
		return err
	case len(head) == 0:
		return io.EOF
	case len(head) < frame.HeaderLen:
		return r.corrupt(fmt.Errorf("%w: %d bytes are left of a header of %d", frame.ErrTruncated, len(head), frame.HeaderLen))
	}
	n := binary.LittleEndian.Uint64(head)
	// No writer of any of the formats makes a longer one.
	if longest := 1024 + r.store.limit + r.store.limit/6; n > uint64(longest) {
		return r.corrupt(fmt.Errorf("%w: %d bytes, and no piece has more than %d", frame.ErrTooLong, n, longest))
	}
	r.use(frame.HeaderLen)
	if n == 0 {
		return r.corrupt(errNothing)
	}
	r.length, r.got = int64(n), 0
	r.piece = piece{source: &r.source, left: r.length}
	return nil
}

// corrupt returns the error for the piece that is read.
func (r *valueReader) corrupt(err error) error {
	return r.store.corrupt(r.op, r.key, r.begin, err)
}

// failed returns the error of reading a piece: that of the store beneath where
// it has one, else that of the piece.
func (r *valueReader) failed(err error) error {
	switch {
	case r.source.err != nil:
		return r.source.err
	case r.piece.cut:
		return r.corrupt(fmt.Errorf("%w: %d of %d bytes", frame.ErrTruncated, r.length-r.piece.left, r.length))
	}
	return r.corrupt(inPiece(r.length, err))
}

func (r *valueReader) openPiece() error {
	if err := r.nextPiece(); err != nil {
		return err
	}
	stream, err := openStream(r.store.codec, &r.piece)
	if err != nil {
		return r.failed(err)
	}
	if r.stream = stream; stream != nil {
		return r.readAhead()
	}
	content, err := r.piece.whole(r.length)
	if err != nil {
		return r.failed(err)
	}
	if r.whole, err = r.store.codec.decode(r.whole[:0], content); err != nil {
		return r.failed(err)
	}
	r.use(int(r.length))
	r.rest = r.whole
	return nil
}

// aheadBytes is how much of a piece is decompressed before any of it is
// delivered: of one that is no longer, the checksum was then compared.
const aheadBytes = 256 << 10

// readAhead reads the beginning of a piece.
func (r *valueReader) readAhead() error {
	r.whole = r.whole[:0]
	for len(r.whole) < aheadBytes && r.stream != nil {
		if len(r.whole) == cap(r.whole) {
			r.whole = append(make([]byte, 0, min(max(4<<10, 8*len(r.whole)), aheadBytes)), r.whole...)
		}
		n := r.readStream(r.whole[len(r.whole):min(cap(r.whole), aheadBytes)])
		r.whole = r.whole[:len(r.whole)+n]
		if r.err != nil {
			return r.err
		}
	}
	r.rest = r.whole
	return nil
}

// Read reads the decompressed value.
func (r *valueReader) Read(dst []byte) (int, error) {
	for len(dst) > 0 && r.err == nil {
		switch {
		case len(r.rest) > 0:
			n := copy(dst, r.rest)
			r.rest = r.rest[n:]
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

// readStream reads from the piece that is decompressed as it is read. It closes
// it at its end.
func (r *valueReader) readStream(dst []byte) int {
	n, err := r.stream.Read(dst)
	r.got += int64(n)
	switch {
	case r.got > r.store.limit:
		n, r.err = 0, r.corrupt(inPiece(r.length, fmt.Errorf("%w of %d bytes", errTooLong, r.store.limit)))
	case err != nil && err != io.EOF:
		r.err = r.failed(err)
	}
	if err != nil || r.err != nil {
		_ = r.stream.Close() // it is only read
		r.stream = nil
	}
	return n
}

// measure reads the value and returns the size that it decompresses to, without
// decompressing pieces that tell theirs.
func (r *valueReader) measure(scratch []byte) (int64, error) {
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
			return 0, r.failed(err)
		}
		if n != unknown {
			size += n
			if err := r.piece.drop(); err != nil {
				return 0, r.failed(err)
			}
			continue
		}
		if r.stream, err = r.store.codec.stream(&r.piece, n); err != nil {
			return 0, r.failed(err)
		}
		for r.stream != nil && r.err == nil {
			size += int64(r.readStream(scratch))
		}
		if r.err != nil {
			return 0, r.err
		}
	}
}
