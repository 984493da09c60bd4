package logstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/segment"
)

// walFormat has what readers of a store's write-ahead files must know about the store.
type walFormat struct {
	format     *segment.Format
	wasDurable bool  // manifest.durable when the store was opened
	maxRecord  int64 // maximum size of a record to replay
}

// walReader reads a write-ahead file with records that are not in segments.
type walReader struct {
	*walFormat
	slot int // index in writeAhead.files; the file is named wal-0, wal-1 or wal-2
	f    vfs.File
	path string
	size int64
	walHeader

	nextSeq         uint64 // number of the next record
	off             int64  // offset of the next record
	buf             []byte // the file's bytes from bufOff on
	bufOff          int64
	nextFile        int  // slot of the next file plus one; 0 if no end record was read
	resemblesRecord bool // the bytes at off resemble a record header
}

const walReadLen = 1 << 20

// readAt returns up to n bytes of the file at an offset.
func (r *walReader) readAt(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), max(r.size-off, 0)))
	if off >= r.bufOff && off+int64(n) <= r.bufOff+int64(len(r.buf)) {
		return r.buf[off-r.bufOff:][:n], nil
	}
	size := int(min(int64(max(n, walReadLen)), r.size-off))
	if cap(r.buf) < size {
		r.buf = make([]byte, size)
	}
	r.buf = r.buf[:size]
	read, err := r.f.ReadAt(r.buf, off)
	if err != nil && err != io.EOF {
		r.buf = nil
		return nil, err
	}
	r.buf, r.bufOff = r.buf[:read], off
	return r.buf[:min(n, read)], nil
}

// next returns the next record. If there is no valid record, it returns errNoRecord, and the
// caller must find out whether the log ends here or is damaged.
func (r *walReader) next() (h recordHeader, entries []byte, err error) {
	b, err := r.readAt(r.off, recordHeaderLen+tagLen)
	if err != nil {
		return h, nil, err
	}
	r.resemblesRecord = len(b) >= epochOffset+8 && binary.LittleEndian.Uint64(b[epochOffset:]) == r.epoch ||
		len(b) >= seqOffset+8 && binary.LittleEndian.Uint64(b[seqOffset:]) == r.nextSeq
	h, err = parseRecordHeader(b, r.format, r.off)
	if err != nil {
		return h, nil, err
	}
	if h.epoch != r.epoch || h.seq != r.nextSeq {
		return h, nil, errNoRecord
	}
	if h.kind == recordEndOfFile {
		r.nextFile, r.resemblesRecord = int(h.crc)+1, false
		return h, nil, errNoRecord
	}
	if h.totalLen > r.size-r.off {
		return h, nil, errNoRecord
	}
	if err := r.check(h); err != nil {
		return h, nil, err
	}
	rec, err := r.readAt(r.off, int(h.totalLen))
	if err != nil {
		return h, nil, err
	}
	if int64(len(rec)) < h.totalLen {
		return h, nil, errNoRecord
	}
	entries = rec[h.totalLen-int64(h.length):]
	r.off += h.totalLen
	r.nextSeq = h.seq + 1
	return h, entries, nil
}

// check verifies that the checksum of a record's entries is correct and that the record is not too
// large for the store's memory. It reads block by block, so that a false length does not cause a
// large allocation.
func (r *walReader) check(h recordHeader) error {
	end := r.off + h.totalLen
	var crc uint32
	for off := end - int64(h.length); off < end; {
		b, err := r.readAt(off, int(min(end-off, walReadLen)))
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return errNoRecord
		}
		crc = crc32.Update(crc, segment.Castagnoli, b)
		off += int64(len(b))
	}
	if crc != h.crc {
		return errNoRecord
	}
	if limit := r.maxRecord; h.totalLen > limit {
		return fmt.Errorf("%w: %s has a record of %d bytes at offset %d, but this store's limit is %d: open it with the Memory option set to at least %d",
			partd.ErrTooLarge, r.path, h.totalLen, r.off, limit, h.totalLen*8)
	}
	return nil
}

// damageError handles the lack of a valid record at off. It returns an error if a later record shows
// that the data at off is damaged, rather than the torn end of the log after a crash.
func (r *walReader) damageError() error {
	later, exists, err := r.findHeader(r.off + 1)
	if err != nil || !exists {
		return err
	}
	if r.wasDurable && later.synced < r.nextSeq {
		// Neither the record at off nor any later one is known to be synced. A power loss can lose
		// some of these records and keep later ones.
		r.resemblesRecord = true
		return nil
	}
	return &partd.CorruptError{Path: r.path, Offset: r.off, Err: fmt.Errorf(
		"record %d is damaged, but the later record %d is intact", r.nextSeq, later.seq)}
}

// findHeader searches for record headers of the reader's epoch, from offset first on. It returns
// the header with the highest value of synced.
func (r *walReader) findHeader(first int64) (best recordHeader, exists bool, err error) {
	pattern := binary.LittleEndian.AppendUint64(nil, r.epoch)
	for pos := first; pos < r.size; {
		b, err := r.readAt(pos, walReadLen)
		if err != nil {
			return best, exists, err
		}
		if len(b) < recordHeaderLen {
			break
		}
		i := bytes.Index(b, pattern)
		if i < 0 {
			pos += int64(max(len(b)-len(pattern)+1, 1))
			continue
		}
		headerOff := pos + int64(i) - epochOffset
		pos += int64(i) + 1
		if headerOff < first {
			continue
		}
		head, err := r.readAt(headerOff, recordHeaderLen+tagLen)
		if err != nil {
			return best, exists, err
		}
		h, err := parseRecordHeader(head, r.format, headerOff)
		if err == nil && h.kind != recordEndOfFile && h.epoch == r.epoch && h.seq >= r.nextSeq && (!exists || h.synced > best.synced) {
			best, exists = h, true
		}
	}
	return best, exists, nil
}

// readHeader reads the header of a write-ahead file. If the header is damaged, the error
// wraps errNoRecord. If the file belongs to another store or has an unsupported version, which no
// crash can cause, the error wraps errForeign.
func (w *walFormat) readHeader(f vfs.File) (walHeader, error) {
	b := make([]byte, walHeaderLen)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return walHeader{}, err
	}
	h, err := parseWALHeader(b[:n], w.format)
	if errors.Is(err, errForeign) {
		return h, &partd.CorruptError{Path: f.Name(), Offset: 0, Err: err}
	}
	if err != nil {
		return h, fmt.Errorf("%w: %w", errNoRecord, err)
	}
	return h, nil
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
