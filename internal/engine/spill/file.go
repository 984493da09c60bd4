package spill

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// File is a temporary file of blocks. The blocks' offsets and checksums are only in memory,
// because no other process reads the file.
type File struct {
	// Buf holds data that is not yet in the file. To write, call Room and then append to Buf.
	Buf []byte
	// Quota, if not nil, counts the file's bytes until Close. A file with a quota must not be
	// Reset.
	Quota *Quota

	file       vfs.File
	content    string // description of the content, for messages
	limit      int    // maximum length of a block, unless a record is longer
	blockStart int    // offset of the current block in Buf
	blocks     []block
	size       int64 // bytes written
	longest    int   // length of the longest block
	freed      int64 // end of the disk space that Drop has freed
}

type block struct {
	offset int64
	crc    uint32 // CRC-32C
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	// ErrDamaged is wrapped by the error for a block that differs from the written bytes.
	ErrDamaged = errors.New("a temporary file was damaged: use another disk for temporary files, and if this happens again, check the memory")
)

// Create creates a file. content, such as "sorted records", describes its content in errors.
// A block has up to limit bytes, unless a single record is longer.
func Create(temp *tempdir.Set, content string, limit int) (*File, error) {
	f, err := temp.Create()
	if err != nil {
		return nil, fmt.Errorf("creating a file for %s: %w", content, err)
	}
	return New(f, content, limit), nil
}

// New is like Create, but uses an open file.
func New(f vfs.File, content string, limit int) *File {
	return &File{file: f, content: content, limit: limit}
}

// Room makes space in Buf for a record of up to n bytes. If the current block would become too
// long, Room first calls Flush.
func (f *File) Room(n int) error {
	if len(f.Buf)+n <= min(f.limit, cap(f.Buf)) {
		return nil
	}
	return f.makeRoom(n)
}

func (f *File) makeRoom(n int) error {
	if n > partd.MaxValueLen {
		return fmt.Errorf("a record of %d bytes in a temporary file: %w", n, partd.ErrTooLarge)
	}
	err := f.Flush()
	n = max(n, f.limit)
	if n > cap(f.Buf) {
		f.Buf = make([]byte, 0, n)
	}
	return err
}

// End ends the current block, unless it is empty.
func (f *File) End() {
	if b := f.Buf[f.blockStart:]; len(b) > 0 {
		f.blocks = append(f.blocks, block{f.size + int64(f.blockStart), crc32.Checksum(b, castagnoli)})
		f.blockStart = len(f.Buf)
		f.longest = max(f.longest, len(b))
	}
}

// Flush ends the current block and writes Buf to the file.
func (f *File) Flush() error {
	f.End()
	if len(f.Buf) == 0 {
		return nil
	}
	if err := f.Quota.Take(int64(len(f.Buf))); err != nil {
		return fmt.Errorf("writing %s: %w", f.content, err)
	}
	if _, err := f.file.WriteAt(f.Buf, f.size); err != nil {
		return fmt.Errorf("writing %s to a temporary file (if the disk is full, use another directory for temporary files): %w", f.content, err)
	}
	f.size += int64(len(f.Buf))
	f.Buf, f.blockStart = f.Buf[:0], 0
	return nil
}

// Finish writes the remaining data and frees the buffer.
func (f *File) Finish() error {
	err := f.Flush()
	f.Buf = nil
	return err
}

const freeUnit = 1 << 20 // Drop frees disk space in units of this many bytes

// Drop frees the disk space and the page cache of the first n blocks, which must not be read again.
// Later writes are several times faster if they can reuse page cache that was just freed. If the
// file system cannot free parts of a file, Drop does nothing.
func (f *File) Drop(n int) {
	end := f.size
	if n < len(f.blocks) {
		end = f.blocks[n].offset
	}
	end -= end % freeUnit
	if end > f.freed {
		if p, ok := f.file.(vfs.Puncher); ok {
			_ = p.Punch(f.freed, end-f.freed) // ignore the error: the file then only needs more space on disk
		}
		f.freed = end
	}
}

// Reset removes all blocks.
func (f *File) Reset() {
	f.Buf, f.blockStart, f.blocks, f.size, f.freed = f.Buf[:0], 0, f.blocks[:0], 0, 0
}

// Close closes and removes the file. It does nothing if f is nil.
func (f *File) Close() error {
	if f == nil {
		return nil
	}
	f.Quota.Release(f.size)
	if err := f.file.Close(); err != nil {
		return fmt.Errorf("closing a temporary file with %s: %w", f.content, err)
	}
	return nil
}

// Size returns the number of bytes written.
func (f *File) Size() int64 { return f.size }

// MaxRuns is the maximum number of files of sorted records that a sorter keeps. With more, it
// merges some of them before the end of the input, because a process can open a limited number
// of files, often 4,096.
const MaxRuns = 1000

// ShortestNeighbors returns the index of the first of the n neighboring files with the smallest
// total size. Sorters merge only neighboring files, to keep the order of equal records.
func ShortestNeighbors[F interface{ Size() int64 }](files []F, n int) (first int) {
	var size, minSize int64
	for i, f := range files {
		size += f.Size()
		if i >= n {
			size -= files[i-n].Size()
		}
		if i == n-1 || i >= n && size < minSize {
			first, minSize = i-n+1, size
		}
	}
	return first
}

// EarlyMerge returns the number of files to merge before the end of the input, or 0. fanIn is the
// maximum number of files that can be merged together. For fewer than 2*fanIn files, it returns 0. It
// also returns 0 if one file has over two thirds of the bytes of the fanIn smallest neighbors, because
// that file would be rewritten again and again. With MaxRuns files, it never returns 0.
func EarlyMerge[F interface{ Size() int64 }](files []F, fanIn int) int {
	switch {
	case len(files) >= MaxRuns:
		return min(fanIn, len(files)/2)
	case len(files) < 2*fanIn:
		return 0
	}
	first := ShortestNeighbors(files, fanIn)
	var size, longest int64
	for _, f := range files[first : first+fanIn] {
		size += f.Size()
		longest = max(longest, f.Size())
	}
	if 3*longest > 2*size {
		return 0
	}
	return fanIn
}

// Blocks returns the number of complete blocks, which are numbered from 0.
func (f *File) Blocks() int { return len(f.blocks) }

// Longest returns the size of the longest block in bytes.
func (f *File) Longest() int { return f.longest }

// Span returns the total size of the n blocks from block i on, in bytes.
func (f *File) Span(i, n int) int {
	end := f.size
	if i+n < len(f.blocks) {
		end = f.blocks[i+n].offset
	}
	return int(end - f.blocks[i].offset)
}

// Read reads n blocks from block i on, into buf if they fit. It can be called concurrently.
func (f *File) Read(buf []byte, i, n int) ([]byte, error) {
	size := f.Span(i, n)
	buf = slices.Grow(buf[:0], size)[:size]
	if _, err := f.file.ReadAt(buf, f.blocks[i].offset); err != nil {
		return nil, fmt.Errorf("reading %s from a temporary file: %w", f.content, err)
	}
	for unread := buf; n > 0; i, n = i+1, n-1 {
		b := f.blocks[i]
		size := f.Span(i, 1)
		if crc := crc32.Checksum(unread[:size], castagnoli); crc != b.crc {
			return nil, &partd.CorruptError{Path: f.file.Name(), Offset: b.offset, Err: fmt.Errorf("%w: its CRC-32C is %08x, want %08x", ErrDamaged, crc, b.crc)}
		}
		unread = unread[size:]
	}
	return buf, nil
}

// Write appends p to the file, for reading with [File.NewReader].
func (f *File) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if err := f.Room(1); err != nil {
			return n, err
		}
		part := min(len(p)-n, f.limit-len(f.Buf))
		f.Buf = append(f.Buf, p[n:n+part]...)
		n += part
	}
	return n, nil
}

// Reader reads a finished file as a stream of bytes.
type Reader struct {
	file        *File
	nextBlock   int
	buf, unread []byte
}

// NewReader returns a Reader that begins at the first block.
func (f *File) NewReader() *Reader { return &Reader{file: f} }

func (r *Reader) Read(p []byte) (int, error) {
	if len(r.unread) == 0 {
		if r.nextBlock == r.file.Blocks() {
			return 0, io.EOF
		}
		var err error
		r.buf, err = r.file.Read(r.buf, r.nextBlock, 1)
		if err != nil {
			return 0, err
		}
		r.unread = r.buf
		r.nextBlock++
	}
	n := copy(p, r.unread)
	r.unread = r.unread[n:]
	return n, nil
}
