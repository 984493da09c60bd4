// Package segment encodes and decodes the data files of log-structured stores. Segments contain
// entries, grouped into ranges by the hashes of their keys. Blob files contain large values.
// docs/dev/format.md describes both. The store's manifest records which segments belong to the store.
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

// Castagnoli is the CRC-32C table for all checksums.
var Castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Format holds the parameters of a store's files.
type Format struct {
	ID   uint64 // random identifier of the store
	Seed uint64 // seed of key hashes, and salt of all checksums
	// KeyHash, if not nil, replaces the hash of keys in tests.
	KeyHash func(key string) uint64
	decomp  decompressor
}

// Hash returns the hash that determines the range of a key.
func (f *Format) Hash(key string) uint64 {
	if f.KeyHash != nil {
		return f.KeyHash(key)
	}
	return xxh3.HashStringSeed(key, f.Seed)
}

// HashBytes is like Hash, but takes a byte slice.
func (f *Format) HashBytes(key []byte) uint64 {
	if f.KeyHash != nil {
		return f.KeyHash(string(key))
	}
	return xxh3.HashSeed(key, f.Seed)
}

// SaltedCRC returns a CRC of b, salted with the store's seed, the file's number and the
// offset, to detect data that belongs to another store, file or offset.
func (f *Format) SaltedCRC(file uint32, off int64, b []byte) uint32 {
	var salt [20]byte
	binary.LittleEndian.PutUint64(salt[:], f.Seed)
	binary.LittleEndian.PutUint32(salt[8:], file)
	binary.LittleEndian.PutUint64(salt[12:], uint64(off))
	sum := ^uint32(0)
	for _, c := range salt { // crc32.Checksum would make salt escape to the heap
		sum = Castagnoli[byte(sum)^c] ^ sum>>8
	}
	return crc32.Update(^sum, Castagnoli, b)
}

// RangeIndex returns the index of the range that contains hash, if there are 2^bits ranges.
func RangeIndex(hash uint64, bits uint8) int { return int(hash >> 1 >> (63 - bits)) }

// HashBounds returns the lowest and highest hash in ranges first to end-1 of 2^bits ranges.
func HashBounds(first, end int, bits uint8) (lo, hi uint64) {
	return uint64(first) << 1 << (63 - bits), uint64(end)<<1<<(63-bits) - 1
}

// FileKind is the kind of a data file.
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

// File is a data file.
type File struct {
	*Format
	io.ReaderAt
	Kind   FileKind
	Number uint32
	Path   string // named in errors
}

// EncodeHeader returns the file's header.
func (f *File) EncodeHeader() []byte {
	b := make([]byte, HeaderLen)
	le := binary.LittleEndian
	copy(b, dataMagic)
	le.PutUint32(b[8:], FormatVersion)
	le.PutUint32(b[12:], uint32(f.Kind))
	le.PutUint64(b[16:], f.ID)
	le.PutUint32(b[24:], f.Number)
	le.PutUint32(b[28:], f.SaltedCRC(f.Number, 0, b[:28]))
	return b
}

// CheckHeader reads and verifies the file's header.
func (f *File) CheckHeader() error {
	b := make([]byte, HeaderLen)
	if err := f.ReadFull(b, 0); err != nil {
		return err
	}
	if string(b[:8]) != dataMagic {
		return f.Corrupt(0, errors.New("it does not begin like a data file of a log store"))
	}
	if err := CheckVersion(binary.LittleEndian.Uint32(b[8:]), FormatVersion); err != nil {
		return f.Corrupt(0, err)
	}
	if string(b) != string(f.EncodeHeader()) {
		return f.Corrupt(0, errors.New("its header is damaged or belongs to another file"))
	}
	return nil
}

// OwnsHeader reports whether b can be the header of one of this store's files. b may be shorter
// than a header, because a crash can leave such a file.
func (f *Format) OwnsHeader(b []byte) bool {
	head := (&File{Format: f}).EncodeHeader()
	const kindAt, idAt, numberAt = 12, 16, 24
	if len(b) < HeaderLen {
		n := min(len(b), kindAt)
		return string(b[:n]) == string(head[:n])
	}
	return string(b[:8]) == dataMagic && string(b[idAt:numberAt]) == string(head[idAt:numberAt])
}

// CheckVersion returns an error unless v, the format version of a file, is supported.
func CheckVersion(v, supported uint32) error {
	if v == supported {
		return nil
	}
	return fmt.Errorf("it has format version %d, but this program supports only version %d: use the program that wrote it", v, supported)
}

func (f *File) Corrupt(off int64, err error) error {
	return &partd.CorruptError{Path: f.Path, Offset: off, Err: err}
}

// ReadFull fills b with the bytes at offset off. It returns an error if the file is too
// short.
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
