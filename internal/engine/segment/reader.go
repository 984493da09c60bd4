package segment

import (
	"encoding/binary"
	"errors"
	"io"
)

// Reader is a Source of the blocks in a section of a file.
type Reader struct {
	file  *File
	off   int64 // offset of the next read
	end   int64
	ahead []byte // bytes that were read but not yet decoded; a part of buf
	buf   []byte
	raw   []byte // memory for decompressed blocks
}

const readLen = 256 << 10

func (r *Reader) Reset(f *File, off, end int64) {
	r.file, r.off, r.end, r.ahead = f, off, end, nil
}

func (r *Reader) Corrupt(reason string) error {
	return r.file.Corrupt(r.off-int64(len(r.ahead)), errors.New(reason))
}

func (r *Reader) Next() ([]byte, error) {
	if len(r.ahead) == 0 && r.off == r.end {
		return nil, io.EOF
	}
	if err := r.fill(blockHeaderLen); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	word := le.Uint32(r.ahead[4:])
	c, storedLen, rawLen := Codec(word>>24), int(word&(1<<24-1)), int(le.Uint32(r.ahead[8:]))
	if rawLen == 0 || rawLen > blockLen || storedLen > rawLen || c == codecNone && storedLen != rawLen {
		return nil, r.Corrupt("a block has an invalid header")
	}
	if err := r.fill(blockHeaderLen + storedLen); err != nil {
		return nil, err
	}
	b := r.ahead[:blockHeaderLen+storedLen]
	off := r.off - int64(len(r.ahead))
	if le.Uint32(b) != r.file.SaltedCRC(r.file.Number, off, b[4:]) {
		return nil, r.Corrupt("a block fails its checksum")
	}
	stored := b[blockHeaderLen:]
	if c == codecNone {
		r.ahead = r.ahead[len(b):]
		return stored, nil
	}
	if r.raw == nil {
		r.raw = make([]byte, blockLen)
	}
	raw, err := r.file.decomp.decompress(r.raw, stored, c, rawLen)
	if err != nil {
		return nil, r.Corrupt(err.Error())
	}
	r.ahead = r.ahead[len(b):]
	return raw, nil
}

func (r *Reader) fill(n int) error {
	if len(r.ahead) >= n {
		return nil
	}
	if int64(n-len(r.ahead)) > r.end-r.off {
		return r.Corrupt("a block reaches beyond the end of its run")
	}
	// Do not make the buffer larger than the section, because a large store has many
	// short sections.
	size := int(min(int64(len(r.ahead))+r.end-r.off, readLen))
	if cap(r.buf) < size {
		buf := make([]byte, max(size, min(2*cap(r.buf), readLen)))
		copy(buf, r.ahead)
		r.buf = buf
	} else {
		r.buf = r.buf[:cap(r.buf)]
		copy(r.buf, r.ahead)
	}
	ahead := len(r.ahead)
	add := int(min(int64(len(r.buf)-ahead), r.end-r.off))
	if err := r.file.ReadFull(r.buf[ahead:ahead+add], r.off); err != nil {
		return err
	}
	r.off += int64(add)
	r.ahead = r.buf[:ahead+add]
	return nil
}
