package compress

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/pierrec/lz4/v4"
)

// lz4Codec stores each piece as an LZ4 frame with the content's size and checksum.
type lz4Codec struct {
	streamer
	level   lz4.CompressionLevel
	writers sync.Pool // holds *lz4.Writer values
}

const (
	lz4Ratio  = 256 // maximum number of decompressed bytes for each compressed byte
	lz4Header = 15  // length of a header that contains a size, in bytes
	lz4Magic  = 0x184D2204
)

func newLZ4(o *Options, limit int64) (codec, error) {
	c := &lz4Codec{level: lz4.Fast}
	c.limit = limit
	if o.Level >= 2 {
		c.level = lz4.Level1 << (o.Level - 2)
	}
	c.writers.New = func() any { return lz4.NewWriter(nil) }
	c.newReader = func(src io.Reader) (io.Reader, func() error, error) {
		r := lz4.NewReader(src)
		return r, func() error {
			r.Reset(src)
			return r.Apply(lz4.ConcurrencyOption(1))
		}, nil
	}
	return c, nil
}

func (c *lz4Codec) encode(dst, src []byte) ([]byte, error) {
	w := c.writers.Get().(*lz4.Writer)
	defer c.writers.Put(w)
	block := lz4.Block64Kb
	if len(src) > 64<<10 {
		block = lz4.Block256Kb
	}
	out := bytes.NewBuffer(dst)
	w.Reset(out)
	err := w.Apply(lz4.ConcurrencyOption(1), lz4.BlockSizeOption(block), lz4.ChecksumOption(true),
		lz4.SizeOption(uint64(len(src))), lz4.CompressionLevelOption(c.level))
	if err != nil {
		return dst, err
	}
	if _, err := w.Write(src); err != nil {
		return dst, errors.Join(err, w.Close())
	}
	err = w.Close()
	w.Reset(nil)
	return out.Bytes(), err
}

func (c *lz4Codec) decode(ctx context.Context, dst, content []byte) ([]byte, error) {
	claimedSize, err := c.measure(content, int64(len(content)))
	if err != nil {
		return dst, err
	}
	return c.decodeStream(ctx, dst, content, claimedSize)
}

// measure reads the header: magic number, flags, block size, content size if a flag is set.
func (c *lz4Codec) measure(header []byte, total int64) (int64, error) {
	if len(header) < 7 || binary.LittleEndian.Uint32(header) != lz4Magic {
		return 0, errors.New("not an LZ4 frame")
	}
	const hasSize = 1 << 3
	if header[4]&hasSize == 0 {
		return unknownSize, nil
	}
	if len(header) < lz4Header {
		return 0, io.ErrUnexpectedEOF
	}
	return checkClaim(binary.LittleEndian.Uint64(header[6:]), total, lz4Ratio, c.limit)
}
