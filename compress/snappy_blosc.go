package compress

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-partd/partd/compress/blosc"
	"github.com/golang/snappy"
	"github.com/klauspost/compress/s2"
)

// snappyCodec stores each piece as a raw Snappy block. Blocks have no checksum and can
// only be decompressed whole.
type snappyCodec struct {
	wholeOnly
	limit int64
}

// snappyRatio is the maximum number of decompressed bytes per compressed byte, rounded up:
// 3 bytes can stand for 64.
const snappyRatio = 22

func (c snappyCodec) encode(dst, src []byte) ([]byte, error) {
	maxLen := s2.MaxEncodedLen(len(src))
	if maxLen < 0 {
		return dst, fmt.Errorf("a piece of %d bytes is too long for snappy", len(src))
	}
	dst = slices.Grow(dst, maxLen)
	n := len(dst)
	// For small blocks, s2.EncodeSnappy takes half the time of package snappy.
	return dst[:n+len(s2.EncodeSnappy(dst[n:n+maxLen], src))], nil
}

func (c snappyCodec) decode(_ context.Context, dst, content []byte) ([]byte, error) {
	n, err := c.measure(content, int64(len(content)))
	if err != nil {
		return dst, err
	}
	dst = slices.Grow(dst, int(n))
	start := len(dst)
	if _, err := snappy.Decode(dst[start:start+int(n)], content); err != nil {
		return dst, err
	}
	return dst[:start+int(n)], nil
}

func (c snappyCodec) measure(header []byte, total int64) (int64, error) {
	n, err := snappy.DecodedLen(header)
	if err != nil {
		return 0, err
	}
	return checkClaim(uint64(n), total, snappyRatio, c.limit)
}

// bloscCodec stores each piece as a Blosc container. Containers have no checksum and can
// only be decompressed whole, because their blocks may be in any order.
type bloscCodec struct {
	wholeOnly
	encoder *blosc.Encoder
	decoder *blosc.Decoder
	limit   int64
}

func newBlosc(o *Options, limit int64) (codec, error) {
	limit = min(limit, blosc.MaxLen)
	encoder, err := blosc.NewEncoder(&blosc.Options{
		Compressor: o.Inner, Shuffle: o.Shuffle, TypeSize: o.TypeSize, Level: o.Level,
	})
	if err != nil {
		return nil, err
	}
	return bloscCodec{encoder: encoder, decoder: blosc.NewDecoder(limit), limit: limit}, nil
}

func (c bloscCodec) encode(dst, src []byte) ([]byte, error) { return c.encoder.Append(dst, src) }

func (c bloscCodec) decode(ctx context.Context, dst, content []byte) ([]byte, error) {
	return c.decoder.AppendContext(ctx, dst, content)
}

func (c bloscCodec) measure(header []byte, total int64) (int64, error) {
	return blosc.DecodedLen(header, total, c.limit)
}
