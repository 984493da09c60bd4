package compress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// zstdCodec stores each piece as a Zstandard frame with the content's size and checksum.
type zstdCodec struct {
	streamer
	encoder func() (*zstd.Encoder, error) // created on the first call
	decoder func() (*zstd.Decoder, error)
}

const (
	// zstdWindow is the window size of written frames, and the maximum for frames that
	// are read. RFC 8878 recommends that every decoder support 8 MiB.
	zstdWindow = 8 << 20
	// zstdRatio is the maximum number of decompressed bytes for each compressed byte: a
	// block of 128 KiB takes at least 4 bytes.
	zstdRatio = 128 << 10 / 4
	// zstdMaxUnsized is the maximum decompressed size of a frame in which encode stores no size.
	zstdMaxUnsized = 256
	// zstdMaxWhole is the maximum decompressed size of a piece that is decoded with a single library
	// call. Such a call ignores the cancellation of a context.
	zstdMaxWhole = 32 << 20
)

func newZstd(o *Options, limit int64) (codec, error) {
	c := &zstdCodec{streamer: streamer{limit: limit}}
	level := cmp.Or(o.Level, 3)
	c.encoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithWindowSize(zstdWindow),
			zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithLowerEncoderMem(true))
	})
	newDecoder := func(threads int) (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(threads), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true),
			zstd.WithDecoderMaxWindow(uint64(min(zstdWindow, max(limit, zstd.MinWindowSize)))),
			zstd.WithDecoderMaxMemory(uint64(max(limit, zstd.MinWindowSize))))
	}
	c.decoder = sync.OnceValues(func() (*zstd.Decoder, error) { return newDecoder(runtime.GOMAXPROCS(0)) })
	c.newReader = func(src io.Reader) (io.Reader, func() error, error) {
		d, err := newDecoder(1)
		return zstdReader{d}, func() error { return d.Reset(src) }, err
	}
	return c, nil
}

func (c *zstdCodec) encode(dst, src []byte) ([]byte, error) {
	encoder, err := c.encoder()
	if err != nil {
		return dst, err
	}
	return encoder.EncodeAll(src, dst), nil
}

func (c *zstdCodec) decode(ctx context.Context, dst, content []byte) ([]byte, error) {
	claimedSize, err := c.measure(content, int64(len(content)))
	if err != nil {
		return dst, err
	}
	capacity := int(claimedSize)
	if claimedSize == unknownSize {
		capacity = int(min(zstdMaxUnsized, c.limit))
	}
	if capacity > zstdMaxWhole {
		return c.decodeStream(ctx, slices.Grow(dst, capacity), content, claimedSize)
	}
	decoder, err := c.decoder()
	if err != nil {
		return dst, err
	}
	// DecodeAll counts the bytes that are already in its buffer against its limit, so
	// pass it only the free space of dst.
	start := len(dst)
	dst = slices.Grow(dst, capacity)
	out, err := decoder.DecodeAll(content, dst[start:start:start+capacity])
	if claimedSize == unknownSize && errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return c.decodeStream(ctx, dst, content, claimedSize)
	}
	if err != nil {
		return dst, zstdError(err)
	}
	if claimedSize != unknownSize && int64(len(out)) != claimedSize {
		return dst, wrongSizeError(int64(len(out)), claimedSize)
	}
	return dst[:start+len(out)], nil
}

func (c *zstdCodec) measure(header []byte, total int64) (int64, error) {
	var h zstd.Header
	if err := h.Decode(header); err != nil {
		return 0, err
	}
	if h.Skippable {
		return 0, errors.New("a skippable frame instead of data")
	}
	if !h.HasFCS {
		// Reading a frame without a size takes memory for its whole window.
		if maxWindow := max(c.limit/8, 128<<10); h.WindowSize > uint64(maxWindow) {
			return 0, fmt.Errorf("%w: it stores no size, and its window has %d bytes", errTooLong, h.WindowSize)
		}
		return unknownSize, nil
	}
	return checkClaim(h.FrameContentSize, total, zstdRatio, c.limit)
}

// zstdError converts the library's errors about limits to errTooLong.
func zstdError(err error) error {
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return fmt.Errorf("%w (%w)", errTooLong, err)
	}
	return err
}

// zstdReader passes the errors from the library's reader through zstdError.
type zstdReader struct{ decoder *zstd.Decoder }

func (r zstdReader) Read(dst []byte) (int, error) {
	n, err := r.decoder.Read(dst)
	return n, zstdError(err)
}
