package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/go-partd/partd"
)

const blobBlock = 64 << 10 // size of a value's blocks in bytes; each block has a CRC

// BlobRef locates a value in a blob file.
type BlobRef struct {
	File   uint32
	Off    int64
	Length int64
	CRC    uint32 // CRC of the CRC table that follows the value
}

const BlobRefLen = 4 + 8 + 8 + 4

func (r BlobRef) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, r.File)
	b = le.AppendUint64(b, uint64(r.Off))
	b = le.AppendUint64(b, uint64(r.Length))
	return le.AppendUint32(b, r.CRC)
}

func ParseBlobRef(b []byte) (BlobRef, error) {
	if len(b) != BlobRefLen {
		return BlobRef{}, fmt.Errorf("a reference to a large value has %d bytes, want %d", len(b), BlobRefLen)
	}
	le := binary.LittleEndian
	r := BlobRef{le.Uint32(b), int64(le.Uint64(b[4:])), int64(le.Uint64(b[12:])), le.Uint32(b[20:])}
	if r.Off < 0 || r.Length < 0 || r.Length > partd.MaxValueLen {
		return BlobRef{}, fmt.Errorf("a reference to a large value has an invalid offset %d or length %d", r.Off, r.Length)
	}
	return r, nil
}

// StoredLen returns the length of the value and its CRC table.
func (r *BlobRef) StoredLen() int64 { return r.Length + r.tableLen() }

func (r *BlobRef) tableLen() int64 { return (r.Length + blobBlock - 1) / blobBlock * 4 }

// BlobTable returns the CRC table for a value.
func BlobTable(value []byte) []byte {
	table := make([]byte, 0, (len(value)+blobBlock-1)/blobBlock*4)
	for off := 0; off < len(value); off += blobBlock {
		table = binary.LittleEndian.AppendUint32(table, crc32.Checksum(value[off:min(off+blobBlock, len(value))], Castagnoli))
	}
	return table
}

// BlobReader reads a large value block by block.
type BlobReader struct {
	f     *File
	Ref   BlobRef
	table []byte // CRCs of the unread blocks
	off   int64  // offset of the next block in the value
	buf   []byte
}

// Open prepares r for reading the value at ref and checks the value's CRC table. size is the
// file's size.
func (r *BlobReader) Open(f *File, size int64, ref BlobRef) error {
	tableLen := ref.tableLen()
	if ref.Off > size || ref.Length+tableLen > size-ref.Off {
		return f.Corrupt(ref.Off, fmt.Errorf(
			"a large value of %d bytes should be here, but the file ends at offset %d", ref.Length, size))
	}
	*r = BlobReader{f: f, Ref: ref, buf: r.buf, table: make([]byte, tableLen)}
	if err := f.ReadFull(r.table, ref.Off+ref.Length); err != nil {
		return err
	}
	if f.SaltedCRC(f.Number, ref.Off, r.table) != ref.CRC {
		return f.Corrupt(ref.Off+ref.Length, errors.New("the CRC table of a large value fails its checksum"))
	}
	return nil
}

// NextLen returns the length of the next block, or 0 after the last one.
func (r *BlobReader) NextLen() int { return int(min(r.Ref.Length-r.off, blobBlock)) }

// Next returns the next block, or io.EOF after the last one. The block is valid until the next call.
func (r *BlobReader) Next() ([]byte, error) {
	if cap(r.buf) < r.NextLen() {
		r.buf = make([]byte, blobBlock)
	}
	return r.NextInto(r.buf)
}

// NextInto is like Next, but reads the block into buf, which must have a capacity of at least NextLen.
func (r *BlobReader) NextInto(buf []byte) ([]byte, error) {
	n := r.NextLen()
	if n == 0 {
		return nil, io.EOF
	}
	b := buf[:n]
	off := r.Ref.Off + r.off
	if err := r.f.ReadFull(b, off); err != nil {
		return nil, err
	}
	if crc32.Checksum(b, Castagnoli) != binary.LittleEndian.Uint32(r.table) {
		return nil, r.f.Corrupt(off, errors.New("a block of a large value fails its checksum"))
	}
	r.table = r.table[4:]
	r.off += int64(n)
	return b, nil
}
