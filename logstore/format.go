package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// format is what all files of one store share.
type format struct {
	id    uint64 // of the store
	seed  uint64 // of the hash of keys and of all salts
	noCRC bool   // checksums are not compared: tests take that protection out
	// keyHash replaces the keyed hash, in tests.
	keyHash func(key string) uint64
	decomp  decompressor
}

// hash returns the hash that chooses the range of a key.
func (f *format) hash(key string) uint64 {
	if f.keyHash != nil {
		return f.keyHash(key)
	}
	return xxh3.HashStringSeed(key, f.seed)
}

// hashBytes is hash for a key that is a slice.
func (f *format) hashBytes(key []byte) uint64 {
	if f.keyHash != nil {
		return f.keyHash(string(key))
	}
	return xxh3.HashSeed(key, f.seed)
}

// salted returns the CRC of something in a file of this store at an offset, so
// that what belongs elsewhere does not match.
func (f *format) salted(file uint32, off int64, b []byte) uint32 {
	var salt [20]byte
	binary.LittleEndian.PutUint64(salt[:], f.seed)
	binary.LittleEndian.PutUint32(salt[8:], file)
	binary.LittleEndian.PutUint64(salt[12:], uint64(off))
	return crc32.Update(crc32.Checksum(salt[:], castagnoli), castagnoli, b)
}

// rangeOf returns which of 2^bits ranges a hash belongs to.
func rangeOf(hash uint64, bits uint8) int { return int(hash >> 1 >> (63 - bits)) }

// rangeBounds returns the lowest and the highest hash of some of 2^bits ranges.
func rangeBounds(first, last int, bits uint8) (lo, hi uint64) {
	return uint64(first) << 1 << (63 - bits), (uint64(last)+1)<<1<<(63-bits) - 1
}

// fileKind is what a data file holds.
type fileKind uint8

const (
	segmentKind fileKind = iota
	blobKind
)

const (
	dataMagic     = "partdDAT"
	dataHeaderLen = 32
	formatVersion = 1
)

// file is where segments or large values are read from.
type file struct {
	*format
	io.ReaderAt
	kind   fileKind
	number uint32
	path   string // for errors
}

// encodeHeader returns what the file begins with.
func (f *file) encodeHeader() []byte {
	b := make([]byte, dataHeaderLen)
	le := binary.LittleEndian
	copy(b, dataMagic)
	le.PutUint32(b[8:], formatVersion)
	le.PutUint32(b[12:], uint32(f.kind))
	le.PutUint64(b[16:], f.id)
	le.PutUint32(b[24:], f.number)
	le.PutUint32(b[28:], f.salted(f.number, 0, b[:28]))
	return b
}

// checkHeader reads what the file begins with.
func (f *file) checkHeader() error {
	b := make([]byte, dataHeaderLen)
	if err := f.readFull(b, 0); err != nil {
		return err
	}
	if string(b[:8]) != dataMagic {
		return f.corrupt(0, errors.New("it does not begin as a data file of a logstore"))
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > formatVersion {
		return f.corrupt(0, newerFormat(v, formatVersion))
	}
	if string(b) != string(f.encodeHeader()) {
		return f.corrupt(0, errors.New("its header is damaged or belongs to another file"))
	}
	return nil
}

// newerFormat returns the error of a file that a newer program wrote.
func newerFormat(v, known uint32) error {
	return fmt.Errorf("it has format version %d, this program knows up to %d: use a newer one", v, known)
}

func (f *file) corrupt(off int64, err error) error {
	return &partd.CorruptError{Path: f.path, Offset: off, Err: err}
}

// readFull fills b from an offset at which the file must have as many bytes.
func (f *file) readFull(b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		return f.corrupt(off+int64(n), fmt.Errorf("the file ends, %d bytes more should be there", len(b)-n))
	}
	return err
}
