// Package segment is the format of a log-structured store's data files: segments,
// which are entries by ranges of the hashes of their keys, and large values.
// docs/format.md describes it. The package knows offsets in files, and neither
// the store that they make nor which of them count.
package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
)

var Castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Format is what all files of one store share.
type Format struct {
	ID    uint64 // of the store
	Seed  uint64 // of the hash of keys and of all salts
	NoCRC bool   // checksums are not compared: tests take that protection out
	// keyHash replaces the keyed hash, in tests.
	KeyHash func(key string) uint64
	decomp  decompressor
}

// Hash returns the hash that chooses the range of a key.
func (f *Format) Hash(key string) uint64 {
	if f.KeyHash != nil {
		return f.KeyHash(key)
	}
	return xxh3.HashStringSeed(key, f.Seed)
}

// HashBytes is hash for a key that is a slice.
func (f *Format) HashBytes(key []byte) uint64 {
	if f.KeyHash != nil {
		return f.KeyHash(string(key))
	}
	return xxh3.HashSeed(key, f.Seed)
}

// Salted returns the CRC of something in a file of this store at an offset, so
// that what belongs elsewhere does not match.
func (f *Format) Salted(file uint32, off int64, b []byte) uint32 {
	var salt [20]byte
	binary.LittleEndian.PutUint64(salt[:], f.Seed)
	binary.LittleEndian.PutUint32(salt[8:], file)
	binary.LittleEndian.PutUint64(salt[12:], uint64(off))
	sum := ^uint32(0)
	for _, c := range salt { // as crc32.Checksum has it, for which the salt would be garbage
		sum = Castagnoli[byte(sum)^c] ^ sum>>8
	}
	return crc32.Update(^sum, Castagnoli, b)
}

// Range returns which of 2^bits ranges a hash belongs to.
func Range(hash uint64, bits uint8) int { return int(hash >> 1 >> (63 - bits)) }

// Bounds returns the lowest and the highest hash of some of 2^bits ranges, from
// the first to the one before end.
func Bounds(first, end int, bits uint8) (lo, hi uint64) {
	return uint64(first) << 1 << (63 - bits), uint64(end)<<1<<(63-bits) - 1
}

// FileKind is what a data file holds.
type FileKind uint8

const (
	SegmentFile FileKind = iota
	BlobFile
)

const (
	dataMagic     = "partdDAT"
	HeaderLen     = 32
	FormatVersion = 1
)

// File is where segments or large values are read from.
type File struct {
	*Format
	io.ReaderAt
	Kind   FileKind
	Number uint32
	Path   string // for errors
}

// EncodeHeader returns what the file begins with.
func (f *File) EncodeHeader() []byte {
	b := make([]byte, HeaderLen)
	le := binary.LittleEndian
	copy(b, dataMagic)
	le.PutUint32(b[8:], FormatVersion)
	le.PutUint32(b[12:], uint32(f.Kind))
	le.PutUint64(b[16:], f.ID)
	le.PutUint32(b[24:], f.Number)
	le.PutUint32(b[28:], f.Salted(f.Number, 0, b[:28]))
	return b
}

// CheckHeader reads what the file begins with.
func (f *File) CheckHeader() error {
	b := make([]byte, HeaderLen)
	if err := f.ReadFull(b, 0); err != nil {
		return err
	}
	if string(b[:8]) != dataMagic {
		return f.Corrupt(0, errors.New("it does not begin as a data file of a logstore"))
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > FormatVersion {
		return f.Corrupt(0, NewerFormat(v, FormatVersion))
	}
	if string(b) != string(f.EncodeHeader()) {
		return f.Corrupt(0, errors.New("its header is damaged or belongs to another file"))
	}
	return nil
}

// OwnsHeader reports whether a file that begins with b, as long as a header or as
// the file, is of this store, or may be: a crash can leave the beginning of a
// header.
func (f *Format) OwnsHeader(b []byte) bool {
	head := (&File{Format: f}).EncodeHeader()
	const kindAt, idAt, numberAt = 12, 16, 24
	if len(b) < HeaderLen {
		n := min(len(b), kindAt)
		return string(b[:n]) == string(head[:n])
	}
	return string(b[:8]) == dataMagic && string(b[idAt:numberAt]) == string(head[idAt:numberAt])
}

// NewerFormat returns the error of a file that a newer program wrote.
func NewerFormat(v, known uint32) error {
	return fmt.Errorf("it has format version %d, but this program knows only up to %d: use a newer one", v, known)
}

func (f *File) Corrupt(off int64, err error) error {
	return &partd.CorruptError{Path: f.Path, Offset: off, Err: err}
}

// ReadFull fills b from an offset at which the file must have as many bytes.
func (f *File) ReadFull(b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		return f.Corrupt(off+int64(n), fmt.Errorf("the file ends %d bytes too early", len(b)-n))
	}
	return err
}
