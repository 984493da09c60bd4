package compress

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// codec compresses and decompresses pieces. It is safe for concurrent use.
type codec interface {
	// encode appends the compressed form of src, which is not empty, to dst.
	encode(dst, src []byte) ([]byte, error)
	// decode appends what a whole piece decompresses to. It takes no more memory
	// than the piece could fill, nor much more than the codec's limit.
	decode(dst, content []byte) ([]byte, error)
	// measure returns what the piece says that it decompresses to, or unknown. It
	// may read the piece's beginning, or all of it.
	measure(p *piece) (int64, error)
	// stream decompresses a piece as it is read, where the format allows that;
	// else it is nil. Close gives its memory back.
	stream(p *piece) (io.ReadCloser, error)
	// maxEncoded returns the longest compressed form of n bytes that is accepted.
	maxEncoded(n int64) int64
}

// unknown is the size of a piece that does not tell it.
const unknown = -1

var (
	errTooLong  = errors.New("the piece decompresses to more than the limit")
	errTrailing = errors.New("data follows the end of the compressed data")
	errNothing  = errors.New("an empty piece")
)

// overLimit is the error for a piece that says that it has n bytes.
func overLimit(n uint64, limit int64) error {
	return fmt.Errorf("%w: it claims %d bytes, the limit is %d", errTooLong, n, limit)
}

// implausible is the error for a piece that cannot hold what it claims.
func implausible(n uint64, compressed int64) error {
	return fmt.Errorf("it claims %d bytes, which %d compressed ones cannot hold", n, compressed)
}

// claim checks a length that a header claims: whether it is within the limit,
// and whether that many compressed bytes can hold it if each becomes ratio bytes
// at most.
func claim(n uint64, compressed, ratio, limit int64) (int64, error) {
	if n > uint64(limit) {
		return 0, overLimit(n, limit)
	}
	if n > uint64(compressed)*uint64(ratio)+uint64(ratio) {
		return 0, implausible(n, compressed)
	}
	return int64(n), nil
}

func newCodec(format Format, o *Options, limit int64) (codec, error) {
	if format != FormatBlosc && (o.TypeSize != 0 || o.Shuffle != 0 || o.Inner != 0) {
		return nil, fmt.Errorf("a type size, a shuffle and an inner codec are for %s, not for %s", FormatBlosc, format)
	}
	switch format {
	case FormatSnappy:
		return snappyCodec{limit}, checkLevel(o.Level, 0)
	case FormatS2:
		return newS2(o.Level, limit), checkLevel(o.Level, 3)
	case FormatZstd:
		if err := checkLevel(o.Level, 22); err != nil {
			return nil, err
		}
		return newZstd(o.Level, limit)
	case FormatLZ4:
		return newLZ4(o.Level, limit), checkLevel(o.Level, 10)
	case FormatZlib, FormatGzip:
		return newFlate(format, o.Level, limit), checkLevel(o.Level, 9)
	case FormatBZ2:
		return newBZ2(o.Level, limit), checkLevel(o.Level, 9)
	case FormatBlosc:
		return newBlosc(o, limit)
	}
	return nil, fmt.Errorf("no such format: there is %q", Formats())
}

// Formats returns all formats, those of Python first.
func Formats() []Format {
	return []Format{
		FormatSnappy, FormatZlib, FormatBZ2, FormatBlosc,
		FormatS2, FormatZstd, FormatLZ4, FormatGzip,
	}
}

func checkLevel(level, most int) error {
	switch {
	case level == 0:
		return nil
	case most == 0:
		return fmt.Errorf("level %d: the format has no levels", level)
	case level < 0 || level > most:
		return fmt.Errorf("level %d: it must be 1 to %d, or 0 for the default", level, most)
	}
	return nil
}

// appender is a writer to memory.
type appender struct{ data []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.data = append(a.data, p...)
	return len(p), nil
}

// told compares what a stream delivers with what its header told of it.
type told struct{ want, got int64 }

// check counts n bytes that came with err, and returns what is wrong.
func (t *told) check(n int, err error) error {
	t.got += int64(n)
	if t.want != unknown && (t.got > t.want || err == io.EOF && t.got < t.want) {
		return fmt.Errorf("%w: %d bytes instead of %d", errTrailing, t.got, t.want)
	}
	return err
}

// decodeStream is decode for a piece that is decompressed as it is read.
func decodeStream(c codec, dst, content []byte, limit int64) ([]byte, error) {
	src := source{buf: content, ended: true}
	s, err := c.stream(&piece{source: &src, left: int64(len(content))})
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
