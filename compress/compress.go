// Package compress provides a layer over a store. The layer compresses values when they are
// appended and decompresses them when they are read.
//
//	store, err := compress.New(partd.NewDict(), compress.Zstd, nil)
//
// The layer compresses every appended value separately, as one piece. It stores each
// piece in a frame (package frame). Python's partd reads and writes the same bytes in four
// of the formats: Snappy, Zlib, BZ2 and Blosc. Small pieces compress badly in any format.
// To append fewer, larger pieces, put a [partd.Buffer] above the layer.
//
// # Damage
//
// If a piece cannot be decompressed, the error wraps a [partd.CorruptError] with the offset of the
// piece in the stored value. Get and Pop then return no values, and a reader or a Scan ends with
// the error. Readers and scans check a piece that decompresses to up to 256 KiB before they deliver
// any of its bytes. They can deliver wrong bytes of a longer piece, because the checksum is at the
// end of the piece.
//
// All formats except Snappy and Blosc store a checksum of the content. Without a checksum, a
// changed bit can go unnoticed: use another format if the underlying store keeps no checksums.
//
// # Memory
//
// A piece must not decompress to more than [Options].Limit. If its header claims a length
// over the limit, or more than its bytes can decompress to, reading fails before any
// memory is allocated for the piece. Open and Scan decompress pieces of any size as they
// are read, except pieces of Snappy and Blosc, which are held whole in memory.
package compress

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress/blosc"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/storekit"
)

// Format is a compression format.
type Format string

// The formats.
const (
	Snappy Format = "snappy" // raw Snappy blocks, as in Python's partd.Snappy
	S2     Format = "s2"     // S2 streams, about as fast as Snappy and smaller
	Zstd   Format = "zstd"   // Zstandard frames, RFC 8878, with checksum
	LZ4    Format = "lz4"    // LZ4 frames with checksum
	Zlib   Format = "zlib"   // zlib streams, RFC 1950, as in Python's partd.ZLib
	Gzip   Format = "gzip"   // gzip files, RFC 1952
	BZ2    Format = "bz2"    // bzip2 files, as in Python's partd.BZ2
	Blosc  Format = "blosc"  // Blosc 1 containers, as in Python's partd.Blosc
)

// Formats returns all formats.
func Formats() []Format { return []Format{Snappy, S2, Zstd, LZ4, Zlib, Gzip, BZ2, Blosc} }

// formatInfo describes a format.
type formatInfo struct {
	maxLevel    int
	readerBytes int64 // maximum memory for an open reader or a listing, in bytes
	newCodec    func(o *Options, limit int64) (codec, error)
}

var formats = map[Format]formatInfo{
	Snappy: {0, 4 << 20, func(_ *Options, limit int64) (codec, error) { return snappyCodec{limit: limit}, nil }},
	S2:     {3, 1 << 20, newS2},
	Zstd:   {22, zstdWindow + 2<<20, newZstd},
	LZ4:    {10, 9 << 20, newLZ4},
	Zlib:   {9, 1 << 20, newZlib},
	Gzip:   {9, 1 << 20, newGzip},
	BZ2:    {9, 5 << 20, newBZ2},
	Blosc:  {9, 4 << 20, newBlosc},
}

// MaxLevel returns the highest level of a format, or 0 if the format has no levels. The
// lowest level is 1.
func (f Format) MaxLevel() int { return formats[f].maxLevel }

// DefaultLimit is the default of Options.Limit, in bytes.
const DefaultLimit = 1 << 30

// Options are the options for New. Leave a field at its zero value if the format does not use it.
type Options struct {
	// Level is the compression level; higher levels are slower and compress better. 0 is
	// the format's default. S2 has levels 1 to 3, default 1; Zstd 1 to 22 (only 1, 3, 6
	// and 10 differ), default 3; LZ4 1 to 10, default 1; Zlib and Gzip 1 to 9, default 6;
	// BZ2 1 to 9, default 9; Blosc 1 to 9, default 1 for LZ4 and 2 for Zstd. Snappy has
	// none.
	Level int
	// Limit is the maximum decompressed length of a piece, in bytes; 0 is
	// DefaultLimit. A longer value is stored as several pieces.
	Limit int64
	// TypeSize is the size, in bytes, of the numbers that Blosc shuffles, 1 to
	// 255; 0 is 8, as in Python.
	TypeSize int
	Shuffle  blosc.Shuffle    // how Blosc reorders the bytes of numbers before it compresses them
	Inner    blosc.Compressor // compressor that Blosc uses
}

// Store is a layer that compresses the values in another store. It supports every
// operation that the underlying store supports, which holds compressed bytes. If a value is
// damaged, Pop removes nothing. Keys and Stat must read all values, because the underlying
// store knows only compressed sizes. If the format is Zlib, Gzip or BZ2, which do not store
// the sizes, they even decompress the values.
type Store struct {
	storekit.Layer
	format  Format
	codec   codec
	limit   int64
	readers sync.Pool // holds *valueReader values
}

// New returns a layer over inner. Closing the layer closes inner.
func New(inner partd.Partd, format Format, opts *Options) (*Store, error) {
	opts = cmp.Or(opts, new(Options))
	fail := func(err error) (*Store, error) {
		return nil, &partd.Error{Op: "new " + string(format) + " layer", Err: err}
	}
	if inner == nil {
		return fail(errors.New("the underlying store is nil"))
	}
	limit := cmp.Or(opts.Limit, DefaultLimit)
	if limit < 1 || limit > math.MaxInt32 {
		return fail(fmt.Errorf("a Limit of %d bytes: it must be 1 to %d, or 0 for %d", limit, math.MaxInt32, DefaultLimit))
	}
	codec, err := newCodec(format, opts, limit)
	if err != nil {
		return fail(err)
	}
	s := &Store{format: format, codec: codec, limit: limit}
	s.Layer = storekit.NewLayer(inner, storekit.Hooks{Name: string(format), In: s.compress, Out: s.decompress})
	return s, nil
}

// ReaderMemory returns the maximum memory in bytes that an open reader and a listing need,
// including the memory of the underlying store.
func (s *Store) ReaderMemory() (reader, listing int64) {
	reader, listing = storekit.ReaderMemory(s.Unwrap())
	layerBytes := formats[s.format].readerBytes
	return reader + layerBytes, listing + layerBytes
}

// Format returns the layer's format.
func (s *Store) Format() Format { return s.format }

// compress appends a value to dst, compressed and framed. An empty value needs no frame; a value
// longer than s.limit needs several.
func (s *Store) compress(_ context.Context, _ string, dst, value []byte) (_ []byte, err error) {
	for len(value) > 0 {
		content := value[:min(int64(len(value)), s.limit)]
		value = value[len(content):]
		start := len(dst)
		dst, err = s.codec.encode(frame.Begin(dst), content)
		if err != nil {
			return nil, err
		}
		dst = frame.End(dst, start)
	}
	return dst, nil
}

// packer compresses pieces. It reuses the writers of a compression library.
type packer struct {
	newWriter func() (pieceWriter, error)
	pool      sync.Pool // holds pieceWriters
}

type pieceWriter interface {
	io.WriteCloser
	Reset(w io.Writer)
}

func (p *packer) encode(dst, src []byte) ([]byte, error) {
	w, _ := p.pool.Get().(pieceWriter)
	if w == nil {
		var err error
		w, err = p.newWriter()
		if err != nil {
			return dst, err
		}
	}
	out := bytes.NewBuffer(dst)
	w.Reset(out)
	_, err := w.Write(src)
	err = errors.Join(err, w.Close())
	if err != nil {
		return dst, err
	}
	w.Reset(nil)
	p.pool.Put(w)
	return out.Bytes(), nil
}
