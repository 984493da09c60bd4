package filedir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

type record struct {
	kind     byte
	synced   bool
	boot     uint64
	spans    []span
	tag      *sessionTag
	progress int64 // offset in the journal of each span's undo progress
}

// span describes how an operation changes one file. Only appends use the fields from created to
// sums. Only other operations use the fields from ino to mtime.
type span struct {
	name     string
	progress uint64

	created          bool
	oldSize, addSize int64
	inline           []byte   // all added bytes; only those of the first piece if sums is not nil
	sums             []uint32 // checksums of all pieces, up to pieceSize bytes each

	ino   uint64
	size  int64
	mtime int64
}

// read reads the journal. It returns nil if the record is incomplete, which means that its operation
// has not changed any file yet.
func (j *journal) read() (*record, error) {
	buf := make([]byte, j.size)
	n, err := j.file.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	buf = buf[:n]
	if n < headerLen {
		return nil, nil
	}
	length := binary.LittleEndian.Uint64(buf[24:])
	spans := uint64(binary.LittleEndian.Uint32(buf[12:]))
	// No program writes version 0: the record's bytes have not all reached the file.
	if version := binary.LittleEndian.Uint16(buf[8:]); version == 0 {
		return nil, nil
	} else if version != journalVersion {
		return nil, j.corrupt(j.path(names.Journal), 8, fmt.Errorf(
			"the record has version %d, but this program supports only version %d: open the store with the program that wrote it", version, journalVersion))
	}
	if length > uint64(len(buf)-headerLen) || spans > length/3 ||
		recordSum(buf[:headerLen+length]) != binary.LittleEndian.Uint32(buf[32:]) {
		return nil, nil
	}
	r := &record{
		kind: buf[10], synced: buf[11]&flagSynced != 0, boot: binary.LittleEndian.Uint64(buf[16:]),
		spans: make([]span, spans), progress: headerLen + int64(length),
	}
	reader := recordReader{buf: buf[headerLen:r.progress]}
	for i := range r.spans {
		s := &r.spans[i]
		if r.kind == kindAppend {
			reader.appendSpan(s)
		} else {
			s.name = string(reader.next(reader.number(2)))
			s.ino, s.size, s.mtime = reader.number(8), int64(reader.number(8)), int64(reader.number(8))
		}
		if offset := r.progress + 8*int64(i); offset+8 <= int64(len(buf)) {
			s.progress = binary.LittleEndian.Uint64(buf[offset:])
		}
	}
	if buf[11]&flagTag != 0 {
		if p := reader.next(tagLen); p != nil {
			r.tag = &sessionTag{slot: binary.LittleEndian.Uint64(p), oldSlot: (*slot)(p[8:]), newSlot: (*slot)(p[8+slotLen:])}
		}
	}
	if reader.failed || len(reader.buf) > 0 || r.kind < kindAppend || r.kind > kindSet || r.kind == kindSet && len(r.spans) != 1 {
		return nil, j.corrupt(j.path(names.Journal), -1, errors.New(
			"its checksum is valid, but its content is not: move the file out of the directory, and check the values that were being written"))
	}
	return r, nil
}

type recordReader struct {
	buf    []byte
	failed bool
}

func (r *recordReader) next(n uint64) []byte {
	if r.failed || n > uint64(len(r.buf)) {
		r.failed = true
		return nil
	}
	p := r.buf[:n]
	r.buf = r.buf[n:]
	return p
}

func (r *recordReader) number(n int) uint64 {
	var p [8]byte
	copy(p[:], r.next(uint64(n)))
	return binary.LittleEndian.Uint64(p[:])
}

func (r *recordReader) appendSpan(s *span) {
	s.name = string(r.next(r.number(2)))
	flags := r.number(1)
	s.created = flags&spanCreated != 0
	s.oldSize, s.addSize = int64(r.number(8)), int64(r.number(8))
	if s.oldSize < 0 || s.addSize <= 0 || s.oldSize+s.addSize < 0 {
		r.failed = true
		return
	}
	if flags&spanInline != 0 {
		s.inline = r.next(uint64(s.addSize))
		return
	}
	s.inline = r.next(uint64(min(s.addSize, pieceEnd(s.oldSize)-s.oldSize)))
	pieces := (s.oldSize+s.addSize-1)/pieceSize - s.oldSize/pieceSize + 1
	for p := r.next(4 * uint64(pieces)); len(p) > 0; p = p[4:] {
		s.sums = append(s.sums, binary.LittleEndian.Uint32(p))
	}
}

func appendName(rec []byte, name string) []byte {
	rec = binary.LittleEndian.AppendUint16(rec, uint16(len(name)))
	return append(rec, name...)
}

// appendFile appends the span of a file that an operation removes or renames: its name, inode, size
// and modification time.
func appendFile(rec []byte, name string, info vfs.Info) []byte {
	rec = appendName(rec, name)
	rec = binary.LittleEndian.AppendUint64(rec, info.Ino)
	rec = binary.LittleEndian.AppendUint64(rec, uint64(info.Size))
	return binary.LittleEndian.AppendUint64(rec, uint64(info.MTime))
}

// pieceEnd returns the end of the piece that contains the byte at off.
func pieceEnd(off int64) int64 { return (off/pieceSize + 1) * pieceSize }

// pieceSums computes the checksum of each piece of a stream of bytes.
type pieceSums struct {
	off      int64
	sum      uint32
	hasBytes bool // the current piece has bytes
}

func (s *pieceSums) add(rec, p []byte) []byte {
	for len(p) > 0 {
		n := min(int64(len(p)), pieceEnd(s.off)-s.off)
		s.sum, s.hasBytes = crc32.Update(s.sum, castagnoli, p[:n]), true
		s.off += n
		p = p[n:]
		if s.off%pieceSize == 0 {
			rec = s.finish(rec)
		}
	}
	return rec
}

func (s *pieceSums) finish(rec []byte) []byte {
	if !s.hasBytes {
		return rec
	}
	rec = binary.LittleEndian.AppendUint32(rec, s.sum)
	s.sum, s.hasBytes = 0, false
	return rec
}

// matchEnd returns the offset up to which the file's bytes match the append. Unless that is the end
// of the append or of the file, it rounds down to the start of a piece or of the append, because an
// interrupted write may have ended there.
func (s *span) matchEnd(file vfs.File, size int64) (int64, error) {
	stored := make([]byte, min(int64(len(s.inline)), size-s.oldSize))
	if err := readFull(file, stored, s.oldSize); err != nil {
		return 0, err
	}
	n := int64(0)
	for n < int64(len(stored)) && stored[n] == s.inline[n] {
		n++
	}
	if s.sums == nil || s.oldSize+n == size {
		if n == int64(len(stored)) {
			return s.oldSize + n, nil
		}
		return max(s.oldSize, (s.oldSize+n)/pageSize*pageSize), nil
	}
	buf := make([]byte, pieceSize)
	offset := s.oldSize
	for _, sum := range s.sums {
		end := min(pieceEnd(offset), s.oldSize+s.addSize)
		if end > size {
			break
		}
		piece := buf[:end-offset]
		if err := readFull(file, piece, offset); err != nil {
			return 0, err
		}
		if crc32.Checksum(piece, castagnoli) != sum {
			break
		}
		offset = end
	}
	return offset, nil
}
