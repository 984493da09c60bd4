package segment

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Codec is a compression format. Blocks store its number.
type Codec uint8

const (
	codecNone Codec = iota
	codecS2
	codecZstd
)

type Compressor struct {
	codec Codec
	zstd  *zstd.Encoder
	buf   []byte
}

func NewCompressor(c Codec) (*Compressor, error) {
	k := &Compressor{codec: c}
	if c == codecZstd {
		var err error
		k.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(blockLen),
			zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
		if err != nil {
			return nil, err
		}
	}
	return k, nil
}

// compress returns the bytes to store for a block: raw if compression saves less than
// 1/16, otherwise compressed bytes, which are valid until the next call.
func (k *Compressor) compress(raw []byte) (stored []byte, c Codec) {
	switch k.codec {
	case codecS2:
		if k.buf == nil {
			k.buf = make([]byte, s2.MaxEncodedLen(blockLen))
		}
		stored, c = s2.Encode(k.buf, raw), codecS2
	case codecZstd:
		k.buf = k.zstd.EncodeAll(raw, k.buf[:0])
		stored, c = k.buf, codecZstd
	}
	if c == codecNone || len(stored) > len(raw)-len(raw)/16 {
		return raw, codecNone
	}
	return stored, c
}

type decompressor struct {
	once sync.Once
	zstd *zstd.Decoder
	err  error
}

// decompress returns a block's rawLen uncompressed bytes, in dst if they fit. rawLen must
// not exceed blockLen.
func (d *decompressor) decompress(dst, stored []byte, c Codec, rawLen int) ([]byte, error) {
	switch c {
	case codecS2:
		n, err := s2.DecodedLen(stored)
		if err != nil || n != rawLen {
			return nil, fmt.Errorf("an S2 block should have %d uncompressed bytes, but has %d (%v)", rawLen, n, err)
		}
		return s2.Decode(dst[:cap(dst)], stored)
	case codecZstd:
		d.once.Do(func() {
			d.zstd, d.err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxMemory(blockLen), zstd.WithDecoderMaxWindow(blockLen))
		})
		if d.err != nil {
			return nil, d.err
		}
		b, err := d.zstd.DecodeAll(stored, dst[:0])
		if err == nil && len(b) != rawLen {
			err = fmt.Errorf("a Zstandard block should have %d uncompressed bytes, but has %d", rawLen, len(b))
		}
		return b, err
	}
	return nil, errors.New("the block has an unknown compression format")
}
