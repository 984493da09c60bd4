// Package blosc reads and writes containers of Blosc 1, which compress arrays of
// numbers. Blosc first shuffles the bytes of the numbers, so that similar bytes are
// adjacent, and then compresses them in blocks.
//
// A container has this format, with little-endian integers:
//
//	+---------+---------+-------+-----------+--------+------------+--------+
//	| version | version | flags | type size | length | block size | length |
//	| 2       | of the  |       |           | of the | uint32     | of the |
//	| 1 byte  | codec, 1| 1     | 1         | data   |            | whole  |
//	+---------+---------+-------+-----------+--------+------------+--------+
//	| offset of each block, uint32 each     | blocks …                      |
//	+--------------------------------------+-------------------------------+
//
// Flags: bit 0: bytes are shuffled; bit 1: the data follows the header uncompressed;
// bit 2: bits are shuffled; bit 4: blocks are not split; bits 5 to 7: the codec, 0
// BloscLZ, 1 LZ4, 2 Snappy, 3 zlib, 4 Zstandard. A block consists of one stream or, if
// it is split, of one stream for each byte of the type. Each stream is preceded by its
// length, uint32. A stream as long as its decompressed data is not compressed. The
// source is README_CHUNK_FORMAT.rst of c-blosc.
//
// The package reads all codecs. It writes LZ4, Zstandard, and uncompressed data. A
// container has no checksum, so some damage goes unnoticed.
package blosc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// HeaderLen is the length of a container's header, in bytes.
const HeaderLen = 16

// MaxLen is the maximum length of the data in a container, in bytes.
const MaxLen = math.MaxInt32 - HeaderLen

// Shuffle says how the numbers of a block are reordered before they are compressed.
type Shuffle uint8

// The shuffles.
const (
	ByteShuffle Shuffle = iota // the first bytes of all numbers, then their second bytes, and so on
	BitShuffle                 // the first bits of all numbers, then their second bits, and so on
	NoShuffle                  // the numbers stay in order
)

// Compressor compresses the blocks in a container. The format calls it the codec.
type Compressor uint8

// The compressors that an [Encoder] supports.
const (
	LZ4 Compressor = iota
	Zstd
	Copy // no compression
)

// ParseShuffle returns the shuffle called name: byte, bit or none.
func ParseShuffle(name string) (Shuffle, error) {
	return parseName[Shuffle]("shuffle", name, "byte", "bit", "none")
}

// ParseCompressor returns the compressor called name: lz4, zstd or copy.
func ParseCompressor(name string) (Compressor, error) {
	return parseName[Compressor]("codec", name, "lz4", "zstd", "copy")
}

// parseName returns the index of name in names. noun describes name in the error.
func parseName[T ~uint8](noun, name string, names ...string) (T, error) {
	i := slices.Index(names, name)
	if i < 0 {
		return 0, fmt.Errorf("unknown %s %q: use %s", noun, name, strings.Join(names, ", "))
	}
	return T(i), nil
}

var (
	// ErrCorrupt is wrapped by the error for data that is not an intact container.
	ErrCorrupt = errors.New("not a Blosc container, or a damaged one")
	// ErrTooLong is wrapped by the error for a container that holds more than the limit.
	ErrTooLong = errors.New("the Blosc container holds more than the limit")
)

func corruptError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

const (
	flagShuffle    = 1 << 0
	flagCopy       = 1 << 1
	flagBitShuffle = 1 << 2
	flagReserved   = 1 << 3
	flagNoSplit    = 1 << 4
	codecShift     = 5

	formatVersion = 2
	codecVersion  = 1
)

// The codecs, as numbered in the flags.
const (
	wireBloscLZ = iota
	wireLZ4
	wireSnappy
	wireZlib
	wireZstd
	wireCodecs
)

type header struct {
	flags     byte
	typeSize  int
	length    int64 // length of the data
	blockSize int64
	total     int64 // length of the container
}

func (h *header) codec() int { return int(h.flags >> codecShift) }

func (h *header) blocks() int64 { return (h.length + h.blockSize - 1) / h.blockSize }

// maxRatios holds the maximum number of decompressed bytes per compressed byte of each codec.
var maxRatios = [wireCodecs]int64{wireBloscLZ: 256, wireLZ4: 256, wireSnappy: 22, wireZlib: 1032, wireZstd: 128 << 10 / 4}

// parseHeader decodes and checks b, the header of a container of total bytes. limit is the maximum
// length of the data.
func parseHeader(b []byte, total, limit int64) (header, error) {
	if len(b) < HeaderLen {
		return header{}, corruptError("its length is %d bytes, less than the header's %d", len(b), HeaderLen)
	}
	h := header{
		flags: b[2], typeSize: int(b[3]),
		length:    int64(binary.LittleEndian.Uint32(b[4:])),
		blockSize: int64(binary.LittleEndian.Uint32(b[8:])),
		total:     int64(binary.LittleEndian.Uint32(b[12:])),
	}
	switch {
	case b[0] != formatVersion || b[1] != codecVersion:
		return h, corruptError("version %d.%d, not %d.%d", b[0], b[1], formatVersion, codecVersion)
	case h.flags&flagReserved != 0 || h.codec() >= wireCodecs || h.typeSize == 0:
		return h, corruptError("invalid flags %#x or type size %d", h.flags, h.typeSize)
	case h.total != total:
		return h, corruptError("its length is %d bytes instead of %d", total, h.total)
	case h.length > limit:
		return h, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLong, h.length, limit)
	case h.length == 0:
		if total != HeaderLen {
			return h, corruptError("%d bytes for an empty container", total)
		}
	case h.flags&flagCopy != 0:
		if h.total != h.length+HeaderLen {
			return h, corruptError("%d bytes for %d bytes of uncompressed data", h.total, h.length)
		}
	case h.blockSize == 0 || h.blockSize > h.length:
		return h, corruptError("blocks of %d bytes for %d bytes of data", h.blockSize, h.length)
	case h.length > total*maxRatios[h.codec()]:
		return h, corruptError("its header claims %d bytes, more than %d compressed bytes can hold", h.length, total)
	case HeaderLen+4*h.blocks() > total:
		return h, corruptError("%d blocks in %d bytes", h.blocks(), total)
	}
	return h, nil
}

// DecodedLen checks the header of a container of total bytes and returns the length of the
// container's data, at most limit. header must be the first HeaderLen bytes.
func DecodedLen(header []byte, total, limit int64) (int64, error) {
	h, err := parseHeader(header, total, limit)
	return h.length, err
}
