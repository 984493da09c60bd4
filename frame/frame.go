// Package frame concatenates byte strings so that they can be split again. A
// frame is the length of its content, as 8 bytes little-endian, and then the
// content:
//
//	+--------+--------+-- … --+--------+-------- … --------+
//	| length, uint64, little-endian    | length bytes       |
//	+--------+--------+-- … --+--------+-------- … --------+
//
// Python's partd frames data the same way (partd.utils.frame): its layers
// store each append as one frame. Python packs the length in the machine's
// own byte order, which is little-endian on nearly all machines.
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

// DefaultLimit is the default maximum length of a frame's content, in bytes.
const DefaultLimit = 1 << 30

var (
	// ErrTruncated is wrapped by the error for input that ends in the middle
	// of a frame.
	ErrTruncated = errors.New("truncated frame")
	// ErrTooLong is wrapped by the error for a frame whose header claims more
	// content than the limit allows. Nothing is allocated for such a frame.
	ErrTooLong = errors.New("frame over the limit")
)

// Error describes an invalid frame.
type Error struct {
	Offset int64 // where the frame begins in the input, in bytes
	Err    error // wraps ErrTruncated, ErrTooLong, or the reader's error
}

func (e *Error) Error() string { return fmt.Sprintf("frame at offset %d: %v", e.Offset, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Append appends a frame that holds a copy of content to dst and returns the
// extended slice.
func Append(dst, content []byte) []byte {
	dst = slices.Grow(dst, HeaderLen+len(content))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(content)))
	return append(dst, content...)
}

// Begin appends an empty header to dst. Append the content to the result, then
// call [End]. Use Begin and End if the length is not known in advance.
func Begin(dst []byte) []byte { return append(dst, make([]byte, HeaderLen)...) }

// End fills in the length of the frame that [Begin] started. start is the length
// that dst had before Begin. End panics if dst is shorter than start+HeaderLen.
func End(dst []byte, start int) []byte {
	binary.LittleEndian.PutUint64(dst[start:], uint64(len(dst)-start-HeaderLen))
	return dst
}

// Split yields the content of each frame in data. It does not copy: the slices
// share the memory of data. It stops after the first error, an *Error.
func Split(data []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for offset := 0; offset < len(data); {
			remaining := data[offset:]
			if len(remaining) < HeaderLen {
				yield(nil, truncatedError(offset, "%d of the %d bytes of a header", len(remaining), HeaderLen))
				return
			}
			n := binary.LittleEndian.Uint64(remaining)
			remaining = remaining[HeaderLen:]
			if n > uint64(len(remaining)) {
				yield(nil, truncatedError(offset, "%d of %d bytes", len(remaining), n))
				return
			}
			if !yield(remaining[:n:n], nil) {
				return
			}
			offset += HeaderLen + int(n)
		}
	}
}

func truncatedError(offset int, format string, args ...any) error {
	return &Error{int64(offset), fmt.Errorf("%w: "+format, append([]any{ErrTruncated}, args...)...)}
}

// Read yields the content of each frame read from r. Each slice is valid until
// the next iteration. A frame with more than limit bytes of content is an error;
// a limit of 0 means DefaultLimit. Memory grows with the bytes that arrive, not
// with the length that a header claims. Read stops after the first error, an
// *Error.
func Read(r io.Reader, limit int64) iter.Seq2[[]byte, error] {
	if limit <= 0 {
		limit = DefaultLimit
	}
	return func(yield func([]byte, error) bool) {
		if r == nil {
			yield(nil, &Error{0, errors.New("the reader is nil")})
			return
		}
		var header [HeaderLen]byte
		var content []byte
		for offset := int64(0); ; offset += HeaderLen + int64(len(content)) {
			n, err := io.ReadFull(r, header[:])
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(nil, &Error{offset, asTruncated(err, n, HeaderLen)})
				return
			}
			length := binary.LittleEndian.Uint64(header[:])
			if length > uint64(limit) || length > math.MaxInt {
				yield(nil, &Error{offset, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLong, length, limit)})
				return
			}
			content, err = readN(r, content[:0], int(length))
			if err != nil {
				yield(nil, &Error{offset, asTruncated(err, len(content), int(length))})
				return
			}
			if !yield(content, nil) {
				return
			}
		}
	}
}

// readN reads n bytes from r and appends them to dst. It grows dst gradually,
// so that a bogus length does not cost much memory.
func readN(r io.Reader, dst []byte, n int) ([]byte, error) {
	const minGrowth = 64 << 10
	for len(dst) < n {
		filled := len(dst)
		dst = slices.Grow(dst, min(n-filled, max(minGrowth, filled)))
		count, err := io.ReadFull(r, dst[filled:min(n, cap(dst))])
		dst = dst[:filled+count]
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// asTruncated returns an error that wraps ErrTruncated if err means that the input ended
// early, after n of length bytes. Otherwise, it returns err unchanged.
func asTruncated(err error, n, length int) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: %d of %d bytes", ErrTruncated, n, length)
	}
	return err
}
