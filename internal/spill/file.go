package spill

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/internal/vfs"
)

// File is a temporary file of blocks. Where they are, and their checksums, is
// kept in memory: nobody else reads the file.
type File struct {
	// Buf is what is not written yet. What belongs to the file is appended to it,
	// after a call of Room.
	Buf []byte

	file    vfs.File
	what    string // it holds, for messages
	limit   int    // bytes of a block, but for a long record
	begun   int    // where in Buf the block begins that is not ended yet
	blocks  []block
	size    int64 // bytes written
	longest int   // block
	gone    int64 // bytes at the beginning that were given back
}

// block is where a block begins; it ends where the next one begins, or the file.
type block struct {
	offset int64
	crc    uint32 // CRC-32C
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	// ErrDamaged is the error where a block is not what was written.
	ErrDamaged = errors.New("a temporary file does not hold what was written to it: put temporary files on another disk, and if it happens again, check the memory")
)

// Create makes a file for what, such as "sorted records", in blocks of up to
// limit bytes; a longer record makes a longer block.
func Create(temp *tempdir.Set, what string, limit int) (*File, error) {
	f, err := temp.Create()
	if err != nil {
		return nil, fmt.Errorf("a file for %s: %w", what, err)
	}
	return New(f, what, limit), nil
}

// New does so with a file that is open.
func New(f vfs.File, what string, limit int) *File { return &File{file: f, what: what, limit: limit} }

// Room makes room in Buf for a record of n bytes at most. Where that takes more
// than a block's, it writes what is there.
func (f *File) Room(n int) error {
	if len(f.Buf)+n <= min(f.limit, cap(f.Buf)) {
		return nil
	}
	return f.makeRoom(n)
}

func (f *File) makeRoom(n int) error {
	if n > partd.MaxValueLen {
		return fmt.Errorf("a record of %d bytes for a temporary file: %w", n, partd.ErrTooLarge)
	}
	err := f.Flush()
	if n = max(n, f.limit); n > cap(f.Buf) {
		f.Buf = make([]byte, 0, n)
	}
	return err
}

// End ends the block, if there is anything in it.
func (f *File) End() {
	if b := f.Buf[f.begun:]; len(b) > 0 {
		f.blocks = append(f.blocks, block{f.size + int64(f.begun), crc32.Checksum(b, castagnoli)})
		f.begun = len(f.Buf)
		f.longest = max(f.longest, len(b))
	}
}

// Flush ends the block and writes all that is buffered.
func (f *File) Flush() error {
	f.End()
	if len(f.Buf) == 0 {
		return nil
	}
	if _, err := f.file.WriteAt(f.Buf, f.size); err != nil {
		return fmt.Errorf("writing %s to a temporary file (is there room for them? another place may have more): %w", f.what, err)
	}
	f.size += int64(len(f.Buf))
	f.Buf, f.begun = f.Buf[:0], 0
	return nil
}

// Finish writes what is left, and gives the buffer back.
func (f *File) Finish() error {
	err := f.Flush()
	f.Buf = nil
	return err
}

// stride is how much is given back at once.
const stride = 1 << 20

// Drop gives back the disk and the page cache of the first n blocks, which nobody
// reads any more. What is written next takes the same memory again, which costs
// several times less than memory that nobody has touched for long. Where the file
// system cannot do that, the file keeps them until it is closed.
func (f *File) Drop(n int) {
	end := f.size
	if n < len(f.blocks) {
		end = f.blocks[n].offset
	}
	if end -= end % stride; end > f.gone {
		if p, ok := f.file.(vfs.Puncher); ok {
			_ = p.Punch(f.gone, end-f.gone)
		}
		f.gone = end
	}
}

// Reset forgets all blocks, and keeps the file for others.
func (f *File) Reset() { f.Buf, f.begun, f.blocks, f.size, f.gone = f.Buf[:0], 0, f.blocks[:0], 0, 0 }

// Close removes the file. nil is none.
func (f *File) Close() error {
	if f == nil {
		return nil
	}
	if err := f.file.Close(); err != nil {
		return fmt.Errorf("closing a temporary file of %s: %w", f.what, err)
	}
	return nil
}

// Size returns how many bytes were written.
func (f *File) Size() int64 { return f.size }

// MostRuns is how many files of sorted records one sorter keeps: beyond, it merges some while
// it takes more in. A process may often open 4,096 files.
const MostRuns = 1000

// Shortest returns where the n neighbouring files begin that have the fewest bytes.
// Neighbours, so that merging them keeps the order of equal records.
func Shortest[F interface{ Size() int64 }](files []F, n int) (first int) {
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

// Early returns how many of some files are to be merged while more is taken in, where so many
// can be merged at once; 0 is none. That is where twice as many wait and the shortest neighbours
// are of about one size: one that is much longer than the others would be written again and again.
func Early[F interface{ Size() int64 }](files []F, atOnce int) int {
	switch {
	case len(files) >= MostRuns:
		return min(atOnce, len(files)/2)
	case len(files) < 2*atOnce:
		return 0
	}
	first := Shortest(files, atOnce)
	var size, longest int64
	for _, f := range files[first : first+atOnce] {
		size += f.Size()
		longest = max(longest, f.Size())
	}
	if 3*longest > 2*size {
		return 0
	}
	return atOnce
}

// Blocks returns how many blocks were ended. They are numbered from 0.
func (f *File) Blocks() int { return len(f.blocks) }

// Longest returns the bytes of the longest block.
func (f *File) Longest() int { return f.longest }

// Span returns the bytes that n blocks from number i on take in the file.
func (f *File) Span(i, n int) int {
	end := f.size
	if i+n < len(f.blocks) {
		end = f.blocks[i+n].offset
	}
	return int(end - f.blocks[i].offset)
}

// Read reads n blocks from number i on into buf, which grows where it is too
// small. Several goroutines may read.
func (f *File) Read(buf []byte, i, n int) ([]byte, error) {
	size := f.Span(i, n)
	buf = slices.Grow(buf[:0], size)[:size]
	if _, err := f.file.ReadAt(buf, f.blocks[i].offset); err != nil {
		return nil, fmt.Errorf("reading %s from a temporary file: %w", f.what, err)
	}
	for rest := buf; n > 0; i, n = i+1, n-1 {
		b := f.blocks[i]
		size := f.Span(i, 1)
		if crc := crc32.Checksum(rest[:size], castagnoli); crc != b.crc {
			return nil, &partd.CorruptError{Path: f.file.Name(), Offset: b.offset, Err: fmt.Errorf("%w: CRC-32C %08x, not %08x", ErrDamaged, crc, b.crc)}
		}
		rest = rest[size:]
	}
	return buf, nil
}

// Write appends bytes of a stream that a [Reader] returns, in blocks of the full length.
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

// Reader reads a finished file as a stream.
type Reader struct {
	file      *File
	next      int // block
	buf, rest []byte
}

// NewReader returns a Reader from the beginning on.
func (f *File) NewReader() *Reader { return &Reader{file: f} }

func (r *Reader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.next == r.file.Blocks() {
			return 0, io.EOF
		}
		var err error
		if r.buf, err = r.file.Read(r.buf, r.next, 1); err != nil {
			return 0, err
		}
		r.rest = r.buf
		r.next++
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
