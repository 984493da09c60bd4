package spill

import (
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/klauspost/compress/s2"

	"github.com/go-partd/partd"
)

// Reader reads blocks of files, for one goroutine. The zero value is ready.
type Reader struct{ stored []byte }

// Read reads n blocks from number i on into buf, which grows where it is too
// small. Of a compressed file it reads one.
func (r *Reader) Read(f *File, buf []byte, i, n int) ([]byte, error) {
	size, length := f.Span(i, n), int(f.blocks[i].length)
	compressed := f.Compress && size < length
	into := &buf
	if compressed {
		into = &r.stored
	}
	*into = slices.Grow((*into)[:0], size)[:size]
	if _, err := f.file.ReadAt(*into, f.blocks[i].offset); err != nil {
		return nil, fmt.Errorf("reading %s from a temporary file: %w", f.what, err)
	}
	for rest := *into; n > 0; i, n = i+1, n-1 {
		stored := f.Span(i, 1)
		if crc := crc32.Checksum(rest[:stored], castagnoli); crc != f.blocks[i].crc {
			return nil, f.damaged(i, fmt.Errorf("%w: CRC-32C %08x, not %08x", ErrDamaged, crc, f.blocks[i].crc))
		}
		rest = rest[stored:]
	}
	if !compressed {
		return buf, nil
	}
	buf, err := s2.Decode(slices.Grow(buf[:0], length)[:length], r.stored)
	if err == nil && len(buf) != length {
		err = ErrDamaged
	}
	if err != nil {
		return nil, f.damaged(i-1, err)
	}
	return buf, nil
}

func (f *File) damaged(i int, err error) error {
	return &partd.CorruptError{Path: f.file.Name(), Offset: f.blocks[i].offset, Err: err}
}
