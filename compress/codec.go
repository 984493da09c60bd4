package compress

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// codec compresses and decompresses pieces. It is safe for concurrent use.
type codec interface {
	// encode appends the compressed form of src, which is not empty, to dst, as
	// append does. Neither encode nor decode keeps what it is given or returns.
	encode(dst, src []byte) ([]byte, error)
	// decode appends what a whole piece decompresses to. It takes no more memory
	// than the piece could fill, nor much more than the codec's limit.
	decode(dst, content []byte) ([]byte, error)
	// measure returns what a piece of total bytes says that it decompresses to, or
	// unknown. The first headBytes of the piece are enough for it.
	measure(head []byte, total int64) (int64, error)
	// stream decompresses a piece, of which measure returned want, as it is read,
	// where the format allows that; else it is nil.
	stream(p *piece, want int64) (io.ReadCloser, error)
}

// noStream is the stream of formats that are decompressed whole.
type noStream struct{}

func (noStream) stream(*piece, int64) (io.ReadCloser, error) { return nil, nil }

// headBytes is the longest beginning of a piece that tells its size: that of S2.
const headBytes = len(s2Identifier) + s2HeaderLen + 8 + s2ChecksumLen

// unknown is the size of a piece that does not tell it.
const unknown = -1

var (
	errTooLong  = errors.New("the piece decompresses to more than the limit")
	errTrailing = errors.New("data follows the end of the compressed data")
	errNothing  = errors.New("an empty piece")
)

// claim checks a length that a header claims: whether it is within the limit,
// and whether that many compressed bytes can hold it if each becomes ratio bytes
// at most.
func claim(n uint64, compressed, ratio, limit int64) (int64, error) {
	if n > uint64(limit) {
		return 0, fmt.Errorf("%w: it claims %d bytes, the limit is %d", errTooLong, n, limit)
	}
	if n > uint64(compressed)*uint64(ratio)+uint64(ratio) {
		return 0, fmt.Errorf("it claims %d bytes, which %d compressed ones cannot hold", n, compressed)
	}
	return int64(n), nil
}

func newCodec(format Format, o *Options, limit int64) (codec, error) {
	if !slices.Contains(Formats(), format) {
		return nil, fmt.Errorf("no such format: there is %q", Formats())
	}
	if format != Blosc && (o.TypeSize != 0 || o.Shuffle != 0 || o.Inner != 0) {
		return nil, fmt.Errorf("a type size, a shuffle and an inner compressor are for %s, not for %s", Blosc, format)
	}
	switch highest := format.MaxLevel(); {
	case o.Level != 0 && highest == 0:
		return nil, fmt.Errorf("level %d: the format has no levels", o.Level)
	case o.Level < 0 || o.Level > highest:
		return nil, fmt.Errorf("level %d: it must be 1 to %d, or 0 for the default", o.Level, highest)
	}
	switch format {
	case Snappy:
		return snappyCodec{limit: limit}, nil
	case S2:
		return newS2(o.Level, limit), nil
	case Zstd:
		return newZstd(o.Level, limit), nil
	case LZ4:
		return newLZ4(o.Level, limit), nil
	case BZ2:
		return newBZ2(o.Level, limit), nil
	case Blosc:
		return newBlosc(o, limit)
	}
	return newFlate(format, o.Level, limit), nil
}
