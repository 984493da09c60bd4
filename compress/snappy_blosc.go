package compress

import (
	"fmt"
	"slices"

	"github.com/go-partd/partd/compress/blosc"
	"github.com/golang/snappy"
	"github.com/klauspost/compress/s2"
)

// snappyCodec is raw Snappy blocks: the decompressed length, then the block.
// They have no checksum and cannot be decompressed in parts.
type snappyCodec struct {
	noStream
	limit int64
}

// snappyRatio is more than any element of a block can become: 64 bytes out of 3.
const snappyRatio = 22

func (c snappyCodec) encode(dst, src []byte) ([]byte, error) {
	longest := s2.MaxEncodedLen(len(src))
	if longest < 0 {
		return dst, fmt.Errorf("snappy cannot take a piece of %d bytes", len(src))
	}
	dst = slices.Grow(dst, longest)
	n := len(dst)
	// It writes what any decoder of Snappy reads, small blocks in half the time.
	return dst[:n+len(s2.EncodeSnappy(dst[n:n+longest], src))], nil
}

func (c snappyCodec) decode(dst, content []byte) ([]byte, error) {
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

func (c snappyCodec) measure(head []byte, total int64) (int64, error) {
	n, err := snappy.DecodedLen(head)
	if err != nil {
		return 0, err
	}
	return claim(uint64(n), total, snappyRatio, c.limit)
}

// bloscCodec is Blosc containers. They have no checksum and are not decompressed
// in parts: where their blocks are is in no order.
type bloscCodec struct {
	noStream
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

func (c bloscCodec) decode(dst, content []byte) ([]byte, error) {
	return c.decoder.Append(dst, content)
}

func (c bloscCodec) measure(head []byte, total int64) (int64, error) {
	return blosc.DecodedLen(head, total, c.limit)
}
