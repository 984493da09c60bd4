// Package frame puts byte strings one behind the other so that they can be
// taken apart again. A frame is the length of its content, as 8 bytes
// little-endian, and then the content:
//
//	+--------+--------+-- … --+--------+-------- … --------+
//	| length, uint64, little-endian    | length bytes       |
//	+--------+--------+-- … --+--------+-------- … --------+
//
// It is the framing of Python's partd (partd.utils.frame), whose layers store
// each append as a frame. Python packs the length in the machine's own byte
// order, which is little-endian wherever it runs today.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
)

// HeaderLen is the number of bytes before a frame's content.
const HeaderLen = 8

// DefaultLimit is the longest content that is taken unless told otherwise, in
// bytes.
const DefaultLimit = 1 << 30

var (
	// ErrTruncated is wrapped by the error for input that ends within a frame.
	ErrTruncated = errors.New("truncated frame")
	// ErrTooLong is wrapped by the error for a frame that says that its content
	// is over the limit. Nothing was allocated for it.
	ErrTooLong = errors.New("frame over the limit")
)

// Error is the error of a frame, and says where it begins.
type Error struct {
	Offset int64 // where in the input the frame begins, in bytes
	Err    error // ErrTruncated, ErrTooLong, or the error of the reader
}

func (e *Error) Error() string { return fmt.Sprintf("frame at offset %d: %v", e.Offset, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Append appends a frame with this content, which it copies, to dst.
func Append(dst, content []byte) []byte {
	dst = slices.Grow(dst, HeaderLen+len(content))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(content)))
	return append(dst, content...)
}

// Begin appends a header to dst, to which content is then appended; End writes
// the length. The two are for content whose length is not known before.
func Begin(dst []byte) []byte { return append(dst, make([]byte, HeaderLen)...) }

// End completes the frame that Begin began when dst had start bytes.
func End(dst []byte, start int) []byte {
	binary.LittleEndian.PutUint64(dst[start:], uint64(len(dst)-start-HeaderLen))
	return dst
}

// Split yields the content of each frame in data, as slices of data, without
// copying: they change with it. After an error, an *Error, it yields nothing more.
func Split(data []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for offset := 0; offset < len(data); {
			rest := data[offset:]
			if len(rest) < HeaderLen {
				yield(nil, truncated(offset, "%d bytes are left of a header of %d", len(rest), HeaderLen))
				return
			}
			n := binary.LittleEndian.Uint64(rest)
			rest = rest[HeaderLen:]
			if n > uint64(len(rest)) {
				yield(nil, truncated(offset, "%d bytes are left of %d", len(rest), n))
				return
			}
			if !yield(rest[:n:n], nil) {
				return
			}
			offset += HeaderLen + int(n)
		}
	}
}

func truncated(offset int, format string, args ...any) error {
	return &Error{int64(offset), fmt.Errorf("%w: "+format, append([]any{ErrTruncated}, args...)...)}
}

// Read yields the content of each frame that r delivers. What it yields is good
// until the next step. A frame whose content is longer than limit bytes is an
// error; 0 is DefaultLimit. Memory grows with the bytes that arrive, not with
// the length that a header claims. After an error, an *Error, it yields nothing
// more.
func Read(r io.Reader, limit int64) iter.Seq2[[]byte, error] {
	if limit <= 0 {
		limit = DefaultLimit
	}
	return func(yield func([]byte, error) bool) {
		var header [HeaderLen]byte
		var content []byte
		for offset := int64(0); ; offset += HeaderLen + int64(len(content)) {
			got, err := io.ReadFull(r, header[:])
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(nil, &Error{offset, cut(err, got, HeaderLen)})
				return
			}
			n := binary.LittleEndian.Uint64(header[:])
			if n > uint64(limit) || n > math.MaxInt {
				yield(nil, &Error{offset, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLong, n, limit)})
				return
			}
			content, err = readN(r, content[:0], int(n))
			if err != nil {
				yield(nil, &Error{offset, cut(err, len(content), int(n))})
				return
			}
			if !yield(content, nil) {
				return
			}
		}
	}
}

// readN appends n bytes of r to dst. It allocates at most as much again as has
// arrived, and a first bit.
func readN(r io.Reader, dst []byte, n int) ([]byte, error) {
	const first = 64 << 10
	for len(dst) < n {
		have := len(dst)
		dst = slices.Grow(dst, min(n-have, max(first, have)))
		got, err := io.ReadFull(r, dst[have:min(n, cap(dst))])
		dst = dst[:have+got]
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// cut returns the error of a frame that ended early.
func cut(err error, got, want int) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: %d of %d bytes", ErrTruncated, got, want)
	}
	return err
}
