package compress

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/pierrec/lz4/v4"
)

// lz4Codec stores each piece as an LZ4 frame with the content's size and checksum.
type lz4Codec struct {
	streamer
	packer
}

const (
	lz4Ratio  = 256 // maximum number of decompressed bytes for each compressed byte
	lz4Header = 15  // length of a header that contains a size, in bytes
	lz4Magic  = 0x184D2204
)

func newLZ4(o *Options, limit int64) (codec, error) {
	c := &lz4Codec{}
	c.limit = limit
	level := lz4.Fast
	if o.Level >= 2 {
		level = lz4.Level1 << (o.Level - 2)
	}
	c.newWriter = func() (pieceWriter, error) { return lz4Writer{lz4.NewWriter(nil), level}, nil }
	c.newReader = func(src io.Reader) (io.Reader, func() error, error) {
		r := lz4.NewReader(src)
		return r, func() error {
			r.Reset(src)
			return r.Apply(lz4.ConcurrencyOption(1))
		}, nil
	}
	return c, nil
}

type lz4Writer struct {
	*lz4.Writer
	level lz4.CompressionLevel
}

// Write writes a frame's whole content, so it must be called once for each frame.
func (w lz4Writer) Write(src []byte) (int, error) {
	block := lz4.Block64Kb
	if len(src) > 64<<10 {
		block = lz4.Block256Kb
	}
	err := w.Apply(lz4.ConcurrencyOption(1), lz4.BlockSizeOption(block), lz4.ChecksumOption(true),
		lz4.SizeOption(uint64(len(src))), lz4.CompressionLevelOption(w.level))
	if err != nil {
		return 0, err
	}
	return w.Writer.Write(src)
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
