package compress

import (
	"cmp"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
)

type flateCodec struct {
	packer
	streamer
	limit int64
}

func newFlate(format Format, level int, limit int64) *flateCodec {
	level = cmp.Or(level, 6)
	c := &flateCodec{limit: limit}
	if format == Gzip {
		c.packer.newWriter = func() (pieceWriter, error) { return gzip.NewWriterLevel(nil, level) }
		c.streamer.newReader = func(src io.Reader) (io.Reader, func() error, error) {
			r := new(gzip.Reader)
			return r, func() error { return r.Reset(src) }, nil
		}
		return c
	}
	c.packer.newWriter = func() (pieceWriter, error) { return zlib.NewWriterLevel(nil, level) }
	c.streamer.newReader = func(src io.Reader) (io.Reader, func() error, error) {
		r, err := zlib.NewReader(strings.NewReader("\x78\x9c")) // NewReader reads a zlib header
		return r, func() error { return r.(zlib.Resetter).Reset(src, nil) }, err
	}
	return c
}

func (c *flateCodec) decode(dst, content []byte) ([]byte, error) {
	return decodeStream(c, dst, content, c.limit)
}

// measure returns unknownSize, because zlib stores no length, and gzip stores it only at the end.
func (c *flateCodec) measure([]byte, int64) (int64, error) { return unknownSize, nil }
