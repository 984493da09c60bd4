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
