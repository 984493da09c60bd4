package compress

import (
	"fmt"
	"slices"

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
