// Package compress makes stores smaller: each layer compresses what is appended
// to the store beneath it, and decompresses what is read.
//
//	store, err := compress.New(partd.NewDict(), compress.Zstd, nil)
//
// Every value of an append is compressed separately, as one piece, and stored in
// a frame (package frame), so that a stored value can be split into its pieces.
// Python's partd reads and writes the same bytes in four formats: Snappy (raw
// blocks), Zlib (RFC 1950), BZ2, and Blosc (containers of version 1). S2, Zstd, LZ4 and Gzip (RFC 1952) are stored in frames as well.
// Small pieces compress badly in any format: put a [partd.Buffer] above the
// layer, which appends fewer, larger pieces.
//
// # Damage
//
// A piece that cannot be decompressed is an error that wraps a
// [partd.CorruptError] with the offset of the piece in the stored value. Get and
// Pop then return nothing, and a reader or a Scan ends with the error. They
// deliver no byte of a damaged piece of up to 256 KiB. Of a longer piece they may
// deliver wrong bytes before they reach the checksum at its end. Bytes that this
// layer did not write are errors, never guessed at. All formats except Snappy and
// Blosc keep a checksum of the content. Python's Snappy blocks and Blosc
// containers have none, so a changed bit may go unnoticed: choose another format
// if the store beneath keeps no checksums.
//
// # Memory
//
// A piece may not decompress to more than [Options].Limit. A header that claims a
// length over the limit, or more than its bytes can decompress to, is an error
// before any memory is allocated. Open and Scan decompress pieces of any size as
// they are read; only pieces of Snappy and Blosc are held whole in memory.
package compress

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress/blosc"
)

// Format is a compression format.
type Format string

// The formats.
const (
	Snappy Format = "snappy" // raw Snappy blocks, as Python's partd.Snappy
	S2     Format = "s2"     // S2 streams, about as fast as Snappy and smaller
	Zstd   Format = "zstd"   // Zstandard frames, RFC 8878, with checksum
	LZ4    Format = "lz4"    // LZ4 frames with checksum
	Zlib   Format = "zlib"   // zlib streams, RFC 1950, as Python's partd.ZLib
	Gzip   Format = "gzip"   // gzip files, RFC 1952
	BZ2    Format = "bz2"    // bzip2 files, as Python's partd.BZ2
	Blosc  Format = "blosc"  // Blosc 1 containers, as Python's partd.Blosc
)

// Formats returns all formats.
func Formats() []Format { return []Format{Snappy, S2, Zstd, LZ4, Zlib, Gzip, BZ2, Blosc} }

// MaxLevel returns the highest level of a format, or 0 if it has no levels. The lowest is
// 1.
func (f Format) MaxLevel() int {
	switch f {
	case S2:
		return 3
	case Zstd:
		return 22
	case LZ4:
		return 10
	case Zlib, Gzip, BZ2, Blosc:
		return 9
	}
	return 0
}

// DefaultLimit is the default of Options.Limit, in bytes.
const DefaultLimit = 1 << 30

// Options are the options of New. Leave a field at its zero value if the format does not
// use it.
type Options struct {
	// Level trades speed for size; 0 is the format's default. S2 has levels 1 to 3,
	// default 1; Zstd 1 to 22 (only 1, 3, 6 and 10 differ), default 3; LZ4 1 (fast,
	// the default) to 10; Zlib and Gzip 1 to 9, default 6; BZ2 1 to 9, default 9; Blosc 1
	// to 9, default 1 for LZ4 and 2 for Zstd. Snappy has none.
	Level int
	// Limit is the maximum decompressed length of a piece, in bytes; 0 is
	// DefaultLimit. A longer value is stored as several pieces.
	Limit int64
	// TypeSize is the size, in bytes, of the numbers that Blosc shuffles, 1 to
	// 255; 0 is 8, as in Python.
	TypeSize int
	// Shuffle is how Blosc reorders the bytes of numbers before it compresses.
	Shuffle blosc.Shuffle
	// Inner is the compressor that Blosc uses.
	Inner blosc.Compressor
}

// Store is a layer that compresses the values of another store. It has every ability of
// the store beneath.
type Store struct {
	inner   partd.Partd
	format  Format
	codec   codec
	limit   int64
	batches sync.Pool // of *batch
	windows sync.Pool // of *[]byte, windowBytes each
}

// New returns a layer over a store and takes ownership of that store: Close closes both.
func New(inner partd.Partd, format Format, opts *Options) (*Store, error) {
	opts = cmp.Or(opts, new(Options))
	fail := func(err error) (*Store, error) {
		return nil, &partd.Error{Op: "new " + string(format) + " layer", Err: err}
	}
	if inner == nil {
		return fail(errors.New("the store beneath is nil"))
	}
	limit := cmp.Or(opts.Limit, DefaultLimit)
	if limit < 1 || limit > math.MaxInt32 {
		return fail(fmt.Errorf("a Limit of %d bytes: it must be 1 to %d, or 0 for %d", limit, math.MaxInt32, DefaultLimit))
	}
	codec, err := newCodec(format, opts, limit)
	if err != nil {
		return fail(err)
	}
	return &Store{inner: inner, format: format, codec: codec, limit: limit}, nil
}

// ReaderMemory returns the memory that an open reader and a listing need, in bytes,
// including that of the store beneath. Pieces shorter than a window need less.
func (s *Store) ReaderMemory() (reader, listing int64) {
	reader, listing = partd.ReaderMemory(s.innerStore())
	budget := int64(1 << 20)
	switch s.format {
	case Zstd:
		budget = zstdWindow + 2<<20
	case BZ2:
		budget = 5 << 20
	case LZ4:
		budget = 9 << 20
	case Snappy, Blosc:
		budget = 4 << 20
	}
	return reader + budget, listing + budget
}

// Format returns the layer's format.
func (s *Store) Format() Format { return s.format }

// Unwrap returns the store beneath, which holds compressed bytes.
func (s *Store) Unwrap() partd.Partd { return s.inner }
