package blosc

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Options are the options for NewEncoder.
type Options struct {
	Compressor Compressor
	Shuffle    Shuffle
	TypeSize   int // size of the numbers in the data, in bytes, 1 to 255; 0 is 8
	// Level trades speed for size, from 1 (fastest) to 9. 0 means 1 for LZ4 and 2 for
	// Zstd. Copy has no levels.
	Level int
}

// Encoder compresses data into containers. It is safe for concurrent use.
type Encoder struct {
	codec          Compressor
	shuffle        Shuffle
	typeSize       int
	zstd           func() (*zstd.Encoder, error) // created at the first call
	lz4Compressors sync.Pool                     // holds blockCompressors
	scratch        sync.Pool                     // holds *[]byte values
}

type blockCompressor interface {
	CompressBlock(src, dst []byte) (int, error)
}

// blockBytes is the length of written blocks. It fits a processor's second-level cache.
const blockBytes = 256 << 10

// NewEncoder returns an encoder. nil means the default options.
func NewEncoder(opts *Options) (*Encoder, error) {
	opts = cmp.Or(opts, new(Options))
	e := &Encoder{codec: opts.Compressor, shuffle: opts.Shuffle, typeSize: opts.TypeSize}
	e.typeSize = cmp.Or(e.typeSize, 8)
	switch {
	case e.typeSize < 1 || e.typeSize > 255:
		return nil, fmt.Errorf("TypeSize is %d bytes: it must be 1 to 255, or 0 for 8", opts.TypeSize)
	case e.shuffle > NoShuffle:
		return nil, fmt.Errorf("unknown shuffle: %d", e.shuffle)
	case e.codec > Copy:
		return nil, fmt.Errorf("unknown compressor: %d", e.codec)
	case e.codec == Copy && opts.Level != 0:
		return nil, fmt.Errorf("level %d: Copy has no levels", opts.Level)
	case opts.Level < 0 || opts.Level > 9:
		return nil, fmt.Errorf("level %d: it must be 1 to 9, or 0 for the default", opts.Level)
	}
	lz4Level, zstdLevel := cmp.Or(opts.Level, 1), cmp.Or(opts.Level, 2)
	e.lz4Compressors.New = func() any {
		if lz4Level == 1 {
			return new(lz4.Compressor)
		}
		return &lz4.CompressorHC{Level: lz4.Level1 << (lz4Level - 1)}
	}
	e.zstd = sync.OnceValues(func() (*zstd.Encoder, error) {
		// As in c-blosc, level n is Zstandard's level 2n - 1.
		return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(2*zstdLevel-1)), zstd.WithEncoderCRC(false),
			zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(blockBytes))
	})
	e.scratch.New = func() any { return new([]byte) }
	return e, nil
}

// Append appends a container of src to dst and returns the result. src must have 1 to
// MaxLen bytes and must not overlap dst. Append does not retain either.
func (e *Encoder) Append(dst, src []byte) ([]byte, error) {
	if len(src) == 0 || len(src) > MaxLen {
		return dst, fmt.Errorf("cannot store %d bytes in a Blosc container: it holds 1 to %d", len(src), MaxLen)
	}
	start := len(dst)
	if e.codec == Copy {
		return e.appendCopy(dst, src), nil
	}
	blockSize := blockBytes / e.typeSize * e.typeSize
	switch {
	case len(src) < e.typeSize:
		blockSize = len(src)
	case len(src) < blockSize:
		blockSize = len(src) / e.typeSize * e.typeSize
	}
	blocks := (len(src) + blockSize - 1) / blockSize
	flags := byte(flagNoSplit)
	switch e.codec {
	case LZ4:
		flags |= wireLZ4 << codecShift
	case Zstd:
		flags |= wireZstd << codecShift
	}
	switch {
	case e.shuffle == ByteShuffle && e.typeSize > 1:
		flags |= flagShuffle
	case e.shuffle == BitShuffle:
		flags |= flagBitShuffle
	}
	dst = e.appendHeader(dst, flags, len(src), blockSize)
	offsetsStart := len(dst)
	dst = append(dst, make([]byte, 4*blocks)...)
	for i := range blocks {
		binary.LittleEndian.PutUint32(dst[offsetsStart+4*i:], uint32(len(dst)-start))
		block := src[i*blockSize : min((i+1)*blockSize, len(src))]
		var err error
		dst, err = e.appendBlock(dst, block)
		if err != nil {
			return dst[:start], err
		}
		if len(dst)-start >= len(src)+HeaderLen {
			return e.appendCopy(dst[:start], src), nil
		}
	}
	binary.LittleEndian.PutUint32(dst[start+12:], uint32(len(dst)-start))
	return dst, nil
}

// appendHeader appends a header to dst. The caller fills in the total length later.
func (e *Encoder) appendHeader(dst []byte, flags byte, length, blockSize int) []byte {
	dst = append(dst, formatVersion, codecVersion, flags, byte(e.typeSize))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(length))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(blockSize))
	return append(dst, 0, 0, 0, 0)
}

func (e *Encoder) appendCopy(dst, src []byte) []byte {
	start := len(dst)
	dst = e.appendHeader(slices.Grow(dst, HeaderLen+len(src)), flagCopy, len(src), len(src))
	binary.LittleEndian.PutUint32(dst[start+12:], uint32(HeaderLen+len(src)))
	return append(dst, src...)
}

func (e *Encoder) appendBlock(dst, src []byte) ([]byte, error) {
	scratch := e.scratch.Get().(*[]byte)
	defer e.scratch.Put(scratch) // small enough to keep: at most blockBytes
	shuffled := src
	if e.shuffle != NoShuffle {
		shuffled = slices.Grow((*scratch)[:0], len(src))[:len(src)]
		*scratch = shuffled
		switch {
		case e.shuffle == ByteShuffle:
			shuffle(shuffled, src, e.typeSize)
		case len(src) >= e.typeSize:
			bitShuffle(shuffled, src, e.typeSize)
		default:
			copy(shuffled, src)
		}
	}
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst, err := e.appendCompressed(dst, shuffled)
	if err != nil {
		return dst, err
	}
	n := len(dst) - start - 4
	if n == 0 || n >= len(src) {
		dst = append(dst[:start+4], shuffled...)
		n = len(shuffled)
	}
	binary.LittleEndian.PutUint32(dst[start:], uint32(n))
	return dst, nil
}

// appendCompressed appends the compressed block src to dst, or nothing if LZ4 cannot make the
// block shorter.
func (e *Encoder) appendCompressed(dst, src []byte) ([]byte, error) {
	if e.codec == Zstd {
		z, err := e.zstd()
		if err != nil {
			return dst, err
		}
		return z.EncodeAll(src, dst), nil
	}
	c := e.lz4Compressors.Get().(blockCompressor)
	defer e.lz4Compressors.Put(c)
	dst = slices.Grow(dst, len(src))
	freeSpace := dst[len(dst) : len(dst)+len(src)]
	n, err := c.CompressBlock(src, freeSpace)
	return dst[:len(dst)+n], err
}
