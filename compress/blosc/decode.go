package blosc

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Decoder decompresses containers. It is safe for concurrent use.
type Decoder struct {
	limit       int64
	zstd        func() (*zstd.Decoder, error) // created at the first call
	zlibReaders sync.Pool                     // holds io.ReadClosers that implement zlib.Resetter
	scratch     sync.Pool                     // holds *[]byte values
}

// NewDecoder returns a decoder for containers of at most limit bytes of data.
func NewDecoder(limit int64) *Decoder {
	d := &Decoder{limit: min(limit, MaxLen)}
	d.zstd = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithDecoderLowmem(true),
			zstd.WithDecodeAllCapLimit(true))
	})
	d.scratch.New = func() any { return new([]byte) }
	return d
}

// Append appends the data of the container src to dst. Before it allocates memory, it checks that
// a container as long as src can hold as much data as its header claims. It does not retain src. On
// failure it returns dst unchanged and an error that wraps ErrCorrupt or ErrTooLong.
func (d *Decoder) Append(dst, src []byte) ([]byte, error) {
	return d.AppendContext(context.Background(), dst, src)
}

// AppendContext is like Append, but stops when ctx ends and then returns the context's error.
func (d *Decoder) AppendContext(ctx context.Context, dst, src []byte) ([]byte, error) {
	h, err := parseHeader(src, int64(len(src)), d.limit)
	if err != nil || h.length == 0 {
		return dst, err
	}
	start := len(dst)
	dst = slices.Grow(dst, int(h.length))[:start+int(h.length)]
	if h.flags&flagCopy != 0 {
		copy(dst[start:], src[HeaderLen:])
		return dst, nil
	}
	scratch := d.scratch.Get().(*[]byte)
	defer func() {
		const maxPooled = 1 << 20
		if cap(*scratch) <= maxPooled {
			d.scratch.Put(scratch)
		}
	}()
	for i := range h.blocks() {
		if err := ctx.Err(); err != nil {
			return dst[:start], err
		}
		offset := i * h.blockSize
		block := dst[start+int(offset) : start+int(min(offset+h.blockSize, h.length))]
		if err := d.decodeBlock(block, src, h, i, scratch); err != nil {
			return dst[:start], err
		}
	}
	return dst, nil
}

// decodeBlock decompresses block i, whose data must fill dst.
func (d *Decoder) decodeBlock(dst, src []byte, h header, i int64, scratch *[]byte) error {
	start := int64(binary.LittleEndian.Uint32(src[HeaderLen+4*i:]))
	if start < HeaderLen+4*h.blocks() || start > int64(len(src)) {
		return corruptError("block %d starts at offset %d, outside the block data of the %d-byte container", i, start, len(src))
	}
	isByteShuffled := h.flags&flagShuffle != 0 && h.typeSize > 1
	isBitShuffled := !isByteShuffled && h.flags&flagBitShuffle != 0 && len(dst) >= h.typeSize
	target := dst // the block before unshuffling
	if isByteShuffled || isBitShuffled {
		*scratch = slices.Grow((*scratch)[:0], len(dst))[:len(dst)]
		target = *scratch
	}
	if err := d.decodeStreams(target, src[start:], h); err != nil {
		return err
	}
	switch {
	case isByteShuffled:
		unshuffle(dst, target, h.typeSize)
	case isBitShuffled:
		unbitShuffle(dst, target, h.typeSize)
	}
	return nil
}

func (d *Decoder) decodeStreams(dst, src []byte, h header) error {
	const (
		maxStreams   = 16  // maximum number of streams in a split block
		minStreamLen = 128 // minimum decompressed length of each of these streams, in bytes
	)
	numStreams := 1
	if h.flags&flagNoSplit == 0 && int64(len(dst)) == h.blockSize &&
		h.typeSize <= maxStreams && len(dst)/h.typeSize >= minStreamLen {
		numStreams = h.typeSize
	}
	if len(dst)%numStreams != 0 {
		return corruptError("the block length %d is not a multiple of the type size %d", len(dst), h.typeSize)
	}
	streamLen := len(dst) / numStreams
	for j := range numStreams {
		if len(src) < 4 {
			return corruptError("a block is cut off")
		}
		length := binary.LittleEndian.Uint32(src)
		src = src[4:]
		if uint64(length) > uint64(len(src)) {
			return corruptError("a stream claims %d bytes, but only %d follow", length, len(src))
		}
		if err := d.decodeStream(dst[j*streamLen:(j+1)*streamLen:(j+1)*streamLen], src[:length], h.codec()); err != nil {
			return err
		}
		src = src[length:]
	}
	return nil
}

// decodeStream decompresses one stream, whose data must fill dst.
func (d *Decoder) decodeStream(dst, src []byte, codec int) error {
	if len(src) == len(dst) {
		copy(dst, src)
		return nil
	}
	var n int
	var err error
	switch codec {
	case wireBloscLZ:
		return decodeBloscLZ(dst, src)
	case wireLZ4:
		n, err = lz4.UncompressBlock(src, dst)
	case wireSnappy:
		n, err = snappy.DecodedLen(src)
		if err == nil && n == len(dst) {
			_, err = snappy.Decode(dst, src)
		}
	case wireZlib:
		n, err = d.inflateStream(dst, src)
	case wireZstd:
		var z *zstd.Decoder
		z, err = d.zstd()
		if err == nil {
			src, err = z.DecodeAll(src, dst[:0])
			n = len(src)
		}
	}
	switch {
	case err != nil:
		return corruptError("%w", err)
	case n != len(dst):
		return corruptError("a stream decompresses to %d bytes instead of %d", n, len(dst))
	}
	return nil
}

func (d *Decoder) inflateStream(dst, src []byte) (int, error) {
	input := bytes.NewReader(src)
	r, _ := d.zlibReaders.Get().(io.ReadCloser)
	var err error
	if r == nil {
		r, err = zlib.NewReader(input)
	} else {
		err = r.(zlib.Resetter).Reset(input, nil)
		if err != nil {
			d.zlibReaders.Put(r)
		}
	}
	if err != nil {
		return 0, err
	}
	defer d.zlibReaders.Put(r)
	n, err := io.ReadFull(r, dst)
	if err != nil {
		return n, err
	}
	var buf [1]byte
	if extra, err := r.Read(buf[:]); extra > 0 || err != io.EOF || input.Len() > 0 {
		return n, corruptError("a stream continues after its %d bytes: %v", n, err)
	}
	return n, nil
}
