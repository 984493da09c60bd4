package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/go-partd/partd"
)

// A blob file holds large values, each followed by a table of the CRCs of its
// blocks. The entry that refers to it holds the CRC of the table.
const blobBlock = 64 << 10

// blobRef says where a large value is.
type blobRef struct {
	file   uint32
	off    int64
	length int64
	crc    uint32 // of the table of CRCs after the value
}

const blobRefLen = 4 + 8 + 8 + 4

func (r blobRef) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, r.file)
	b = le.AppendUint64(b, uint64(r.off))
	b = le.AppendUint64(b, uint64(r.length))
	return le.AppendUint32(b, r.crc)
}

func parseBlobRef(b []byte) (blobRef, error) {
	if len(b) != blobRefLen {
		return blobRef{}, fmt.Errorf("a reference to a large value has %d bytes instead of %d", len(b), blobRefLen)
	}
	le := binary.LittleEndian
	r := blobRef{le.Uint32(b), int64(le.Uint64(b[4:])), int64(le.Uint64(b[12:])), le.Uint32(b[20:])}
	if r.off < 0 || r.length < 0 || r.length > partd.MaxValueLen {
		return blobRef{}, fmt.Errorf("a reference to a large value says offset %d, length %d", r.off, r.length)
	}
	return r, nil
}

// stored is what the value takes of its file.
func (r *blobRef) stored() int64 { return r.length + r.tableLen() }

// tableLen is the length of the table of CRCs behind the value.
func (r *blobRef) tableLen() int64 { return (r.length + blobBlock - 1) / blobBlock * 4 }

// blobTable returns the table of CRCs of a large value.
func blobTable(value []byte) []byte {
	table := make([]byte, 0, (len(value)+blobBlock-1)/blobBlock*4)
	for at := 0; at < len(value); at += blobBlock {
		table = binary.LittleEndian.AppendUint32(table, crc32.Checksum(value[at:min(at+blobBlock, len(value))], castagnoli))
	}
	return table
}

// blobReader reads a blob block by block.
type blobReader struct {
	f     *file
	ref   blobRef
	table []byte // CRCs of the blocks not yet read
	off   int64  // of the next block, within the value
	buf   []byte
}

// open checks the table of CRCs of a large value of a file, of which the size is
// known. Its error names the file.
func (r *blobReader) open(f *file, size int64, ref blobRef) error {
	tableLen := ref.tableLen()
	if ref.off > size || ref.length+tableLen > size-ref.off {
		return f.corrupt(ref.off, fmt.Errorf(
			"a value of %d bytes should be here, but the file ends at %d", ref.length, size))
	}
	*r = blobReader{f: f, ref: ref, buf: r.buf, table: make([]byte, tableLen)}
	if err := f.readFull(r.table, ref.off+ref.length); err != nil {
		return err
	}
	if !f.noCRC && f.salted(f.number, ref.off, r.table) != ref.crc {
		return f.corrupt(ref.off+ref.length, errors.New("the checksum of a table of checksums does not match"))
	}
	return nil
}

// next returns the next block, valid until the next call, and io.EOF after the last.
func (r *blobReader) next() ([]byte, error) {
	n := min(r.ref.length-r.off, blobBlock)
	if n == 0 {
		return nil, io.EOF
	}
	if int64(cap(r.buf)) < n {
		r.buf = make([]byte, blobBlock)
	}
	b := r.buf[:n]
	at := r.ref.off + r.off
	if err := r.f.readFull(b, at); err != nil {
		return nil, err
	}
	if !r.f.noCRC && crc32.Checksum(b, castagnoli) != binary.LittleEndian.Uint32(r.table) {
		return nil, r.f.corrupt(at, errors.New("the checksum of a block of a large value does not match"))
	}
	r.table = r.table[4:]
	r.off += n
	return b, nil
}
