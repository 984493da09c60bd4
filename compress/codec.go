package compress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
)

// codec compresses and decompresses pieces. It is safe for concurrent use.
type codec interface {
	// encode appends the compressed form of src to dst. src must not be empty. Neither
	// encode nor decode retains its arguments or result.
	encode(dst, src []byte) ([]byte, error)
	// decode appends the decompressed content of a piece to dst. It never allocates more
	// memory than the piece can fill, or much more than the codec's limit. It stops when ctx is
	// done, except within a Snappy block, which the library decodes as a whole.
	decode(ctx context.Context, dst, content []byte) ([]byte, error)
	// measure returns the decompressed size that the header of a compressed piece claims, or
	// unknownSize. header must hold the first headBytes bytes of the piece, or all of it.
	// total is the size of the compressed piece.
	measure(header []byte, total int64) (int64, error)
	// stream returns a reader that decompresses the piece in parts, or nil if the codec
	// can only decompress whole pieces. claimedSize is the result of measure.
	stream(p *piece, claimedSize int64) (io.ReadCloser, error)
}

// wholeOnly is embedded by codecs that can only decompress whole pieces.
type wholeOnly struct{}

func (wholeOnly) stream(*piece, int64) (io.ReadCloser, error) { return nil, nil }

// headBytes is the number of bytes that codec.measure needs; S2 needs the most.
const headBytes = len(s2Identifier) + s2HeaderLen + 8 + s2ChecksumLen

// unknownSize is the result of measure for a piece that does not store its size.
const unknownSize = -1

var (
	errTooLong  = errors.New("the piece decompresses to more than the limit")
	errTrailing = errors.New("data follows the end of the compressed data")
	errEmpty    = errors.New("the piece is empty")
)

func wrongSizeError(size, claimedSize int64) error {
	return fmt.Errorf("the data decompresses to %d bytes, but its header claims %d", size, claimedSize)
}

// checkClaim returns n, the decompressed length that the header of a piece claims. It returns
// an error if n exceeds limit, or if n is too large for the compressed length of the piece.
// maxRatio is the format's maximum compression ratio; one more compressed byte is allowed.
func checkClaim(n uint64, compressed, maxRatio, limit int64) (int64, error) {
	if n > uint64(limit) {
		return 0, fmt.Errorf("%w: its header claims %d bytes, the limit is %d", errTooLong, n, limit)
	}
	if n > uint64(compressed)*uint64(maxRatio)+uint64(maxRatio) {
		return 0, fmt.Errorf("its header claims %d bytes, more than %d compressed bytes can hold", n, compressed)
	}
	return int64(n), nil
}

func newCodec(format Format, o *Options, limit int64) (codec, error) {
	info, ok := formats[format]
	if !ok {
		return nil, fmt.Errorf("unknown format: use one of %q", Formats())
	}
	if format != Blosc && (o.TypeSize != 0 || o.Shuffle != 0 || o.Inner != 0) {
		return nil, fmt.Errorf("TypeSize, Shuffle and Inner are options of %s, not of %s", Blosc, format)
	}
	switch {
	case o.Level != 0 && info.maxLevel == 0:
		return nil, fmt.Errorf("level %d: the format has no levels", o.Level)
	case o.Level < 0 || o.Level > info.maxLevel:
		return nil, fmt.Errorf("level %d: it must be 1 to %d, or 0 for the default", o.Level, info.maxLevel)
	}
	return info.newCodec(o, limit)
}

type flateCodec struct {
	packer
	streamer
}

func newGzip(o *Options, limit int64) (codec, error) {
	level := cmp.Or(o.Level, 6)
	c := &flateCodec{streamer: streamer{limit: limit}}
	c.newWriter = func() (pieceWriter, error) { return gzip.NewWriterLevel(nil, level) }
	c.newReader = func(src io.Reader) (io.Reader, func() error, error) {
		r := new(gzip.Reader)
		return r, func() error { return r.Reset(src) }, nil
	}
	return c, nil
}

func newZlib(o *Options, limit int64) (codec, error) {
	level := cmp.Or(o.Level, 6)
	c := &flateCodec{streamer: streamer{limit: limit}}
	c.newWriter = func() (pieceWriter, error) { return zlib.NewWriterLevel(nil, level) }
	c.newReader = func(src io.Reader) (io.Reader, func() error, error) {
		r, err := zlib.NewReader(strings.NewReader("\x78\x9c")) // NewReader reads a zlib header
		return r, func() error { return r.(zlib.Resetter).Reset(src, nil) }, err
	}
	return c, nil
}
