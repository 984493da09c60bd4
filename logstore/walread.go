package logstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/vfs"
)

// walReader reads the records of a write-ahead file in order.
type walReader struct {
	log      *wal
	f        vfs.File
	path     string
	size     int64
	epoch    uint64
	nextSeq  uint64 // expected of the next record
	off      int64  // of the next record
	buf      []byte // the file's bytes from bufAt on
	bufAt    int64
	nextFile int  // one more than the place of the file that follows, if the last record said so
	sawBytes bool // whatever stopped reading looks like the beginning of a record
}

const walReadLen = 1 << 20

func (l *wal) newReader(w liveWAL) (*walReader, error) {
	info, err := w.f.Info()
	if err != nil {
		return nil, err
	}
	return &walReader{log: l, f: w.f, path: w.path, size: info.Size, epoch: w.epoch, nextSeq: w.firstSeq, off: walHeaderLen}, nil
}

// at returns up to n bytes of the file from an offset.
func (r *walReader) at(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), max(r.size-off, 0)))
	if off >= r.bufAt && off+int64(n) <= r.bufAt+int64(len(r.buf)) {
		return r.buf[off-r.bufAt:][:n], nil
	}
	want := int(min(int64(max(n, walReadLen)), r.size-off))
	if cap(r.buf) < want {
		r.buf = make([]byte, want)
	}
	r.buf = r.buf[:want]
	got, err := r.f.ReadAt(r.buf, off)
	if err != nil && err != io.EOF {
		r.buf = nil
		return nil, err
	}
	r.buf, r.bufAt = r.buf[:got], off
	return r.buf[:min(n, got)], nil
}

// next returns the next record. errNoRecord says that there is none, which is
// for the caller to judge; other errors are of reading.
func (r *walReader) next() (h recordHeader, entries []byte, err error) {
	b, err := r.at(r.off, recordHeaderLen+tagLen)
	if err != nil {
		return h, nil, err
	}
	r.sawBytes = len(b) >= 24 && binary.LittleEndian.Uint64(b[16:]) == r.epoch ||
		len(b) >= 32 && binary.LittleEndian.Uint64(b[24:]) == r.nextSeq
	h, err = parseRecordHeader(b, r.log.format, r.off, !r.log.format.NoCRC)
	if err != nil {
		return h, nil, err
	}
	if !r.log.noEpoch && (h.epoch != r.epoch || h.seq != r.nextSeq) {
		return h, nil, errNoRecord
	}
	if h.kind == recordEndOfFile {
		r.nextFile, r.sawBytes = int(h.crc)+1, false
		return h, nil, errNoRecord
	}
	if h.totalLen > r.size-r.off {
		return h, nil, errNoRecord
	}
	if err := r.check(h); err != nil {
		return h, nil, err
	}
	rec, err := r.at(r.off, int(h.totalLen))
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

// check reads a record's entries piece by piece, so that no memory is taken for
// what a header only claims, and refuses a record that is too large for the
// store's memory.
func (r *walReader) check(h recordHeader) error {
	end := r.off + h.totalLen
	var crc uint32
	for at := end - int64(h.length); at < end; {
		b, err := r.at(at, int(min(end-at, walReadLen)))
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return errNoRecord
		}
		crc = crc32.Update(crc, segment.Castagnoli, b)
		at += int64(len(b))
	}
	if !r.log.format.NoCRC && crc != h.crc {
		return errNoRecord
	}
	if limit := r.log.maxRecord; h.totalLen > limit {
		return fmt.Errorf("%w: %s has a record of %d bytes at offset %d, but this store may hold %d in memory: open it with %d bytes of memory or more",
			partd.ErrTooLarge, r.path, h.totalLen, r.off, limit, h.totalLen*8)
	}
	return nil
}

// damage reports whether what stopped reading is damage, not the torn tail that
// a crash leaves: whole records follow that cannot be there after a crash.
func (r *walReader) damage() error {
	later, found, err := r.find(r.off + 1)
	if err != nil || !found {
		return err
	}
	if r.log.wasDurable && later.synced < r.nextSeq {
		// Written after the last sync: a loss of power may keep one and lose
		// another.
		r.sawBytes = true
		return nil
	}
	return &partd.CorruptError{Path: r.path, Offset: r.off, Err: fmt.Errorf(
		"record %d is damaged, though record %d after it is whole", r.nextSeq, later.seq)}
}

// find looks for the header of a record of the reader's epoch, at an offset or
// later. Of several it returns the one that knows of the most synced records.
func (r *walReader) find(first int64) (best recordHeader, found bool, err error) {
	pattern := binary.LittleEndian.AppendUint64(nil, r.epoch)
	for from := first; from < r.size; {
		b, err := r.at(from, walReadLen)
		if err != nil {
			return best, found, err
		}
		if len(b) < recordHeaderLen {
			break
		}
		i := bytes.Index(b, pattern)
		if i < 0 {
			from += int64(max(len(b)-len(pattern)+1, 1))
			continue
		}
		at := from + int64(i) - 16
		from += int64(i) + 1
		if at < first {
			continue
		}
		head, err := r.at(at, recordHeaderLen+tagLen)
		if err != nil {
			return best, found, err
		}
		h, err := parseRecordHeader(head, r.log.format, at, true)
		if err == nil && h.kind != recordEndOfFile && h.epoch == r.epoch && h.seq >= r.nextSeq && (!found || h.synced > best.synced) {
			best, found = h, true
		}
	}
	return best, found, nil
}

// readWALHeader reads the header of a write-ahead file. Where it is damaged,
// errNoRecord is wrapped; where the file is another store's or of a newer
// format, a crash did not do that, and errForeign is wrapped.
func (l *wal) readHeader(f vfs.File) (walHeader, error) {
	b := make([]byte, walHeaderLen)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return walHeader{}, err
	}
	h, err := parseWALHeader(b[:n], l.format)
	if errors.Is(err, errForeign) {
		return h, &partd.CorruptError{Path: f.Name(), Offset: 0, Err: err}
	}
	if err != nil {
		return h, fmt.Errorf("%w: %w", errNoRecord, err)
	}
	return h, nil
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
