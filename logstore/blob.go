package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A blob file holds large values, each followed by a table of the CRCs of its
// blocks. The entry that refers to it holds the CRC of the table.
const blobBlock = 64 << 10

// writeBlob writes a large value from the caller's slice.
func (s *Store) writeBlob(value []byte) (blobRef, error) {
	table := make([]byte, 0, (len(value)+blobBlock-1)/blobBlock*4)
	for at := 0; at < len(value); at += blobBlock {
		table = binary.LittleEndian.AppendUint32(table,
			crc32.Checksum(value[at:min(at+blobBlock, len(value))], castagnoli))
	}
	f, off, err := s.reserveBlob(int64(len(value) + len(table)))
	if err != nil {
		return blobRef{}, err
	}
	ref := blobRef{file: f.number, off: off, length: int64(len(value))}
	ref.crc = crc32.Update(salt(s.seed, f.number, off), castagnoli, table)
	if _, err = f.f.WriteAt(value, off); err == nil {
		_, err = f.f.WriteAt(table, off+int64(len(value)))
	}
	if err != nil {
		s.giveBackBlobs([]blobRef{ref})
		return blobRef{}, err
	}
	f.dirty.Store(true) // after the write: a sync that ran meanwhile did not cover it
	return ref, nil
}

// reserveBlob returns where to write n bytes.
func (s *Store) reserveBlob(n int64) (*dataFile, int64, error) {
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	f := s.blobFile
	if f == nil || f.end >= s.fileSize() {
		var err error
		if f, err = s.addDataFile(blobKind); err != nil {
			return nil, 0, err
		}
		s.blobFile = f
	}
	off := f.end
	f.end += n
	s.dataBytes.Add(n)
	return f, off, nil
}

// tableLen is the length of the table of CRCs behind the value.
func (r *blobRef) tableLen() int64 { return (r.length + blobBlock - 1) / blobBlock * 4 }

// giveBackBlobs gives back the room of large values that no record refers to.
// life is held.
func (s *Store) giveBackBlobs(refs []blobRef) {
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	for i := range refs {
		r := &refs[len(refs)-1-i]
		f, n := s.files.file(r.file, blobKind), r.stored()
		s.dataBytes.Add(-n)
		if f.end != r.off+n { // another is being written behind it
			s.punch(f.f, r.off, n)
			continue
		}
		f.end = r.off
		s.cutBack(f)
	}
}

var errNoBlobFile = errors.New("which the store does not have")

// blobReader reads a blob block by block.
type blobReader struct {
	f     *dataFile
	ref   blobRef
	table []byte // CRCs of the blocks not yet read
	off   int64  // of the next block, within the value
	buf   []byte
}

// openBlob checks the table of CRCs of a blob. Its error names the file.
func (fs *fileSet) openBlob(encoded []byte, buf []byte, r *blobReader) error {
	ref, err := parseBlobRef(encoded)
	if err != nil {
		return err
	}
	f := fs.file(ref.file, blobKind)
	if f == nil {
		return fmt.Errorf("an entry refers to blob file %d, %w", ref.file, errNoBlobFile)
	}
	size, err := f.size()
	if err != nil {
		return err
	}
	tableLen := ref.tableLen()
	if ref.off > size || ref.length+tableLen > size-ref.off {
		return f.corrupt(ref.off, fmt.Errorf(
			"a value of %d bytes should be here, but the file ends at %d", ref.length, size))
	}
	*r = blobReader{f: f, ref: ref, buf: buf}
	r.table = make([]byte, tableLen)
	if err := f.readFull(r.table, ref.off+ref.length); err != nil {
		return err
	}
	if !fs.noCRC && crc32.Update(salt(fs.seed, f.number, ref.off), castagnoli, r.table) != ref.crc {
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
