package logstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/vfs"

	"github.com/go-partd/partd"
)

// A write-ahead file is used again and again. Its header and each record hold
// the epoch, which is one higher at every use, so that what an earlier use left
// behind the end is never taken for a record.
const (
	walMagic        = "partdWAL"
	walHeaderLen    = 64
	recordHeaderLen = 40
	tagLen          = 24
)

// recordType is what a record is for.
type recordType uint8

const (
	recordBatch      recordType = iota // entries
	recordSession                      // a session was issued
	recordEndSession                   // a session was closed by its user
	recordEndOfFile                    // the next record is in another file, whose place is in crc
)

const recordTagged = 1 // flag: a tag follows the header

// recordHeader stands in front of each record.
type recordHeader struct {
	length   uint32 // of the entries
	crc      uint32 // of the entries
	kind     recordType
	tagged   bool
	tag      partd.Tag
	epoch    uint64
	seq      uint64 // counts the store's records
	synced   uint64 // the last record known to survive a loss of power when this was written
	totalLen int64
}

const walFileNumber = 1<<32 - 1 // write-ahead files all have this in their salt

// put writes the header, and the tag, in front of the batch's entries and
// returns the whole record.
func (h *recordHeader) put(b *batch, f *segment.Format, off int64) []byte {
	start := batchPrefix - recordHeaderLen
	if h.tagged {
		start = 0
	}
	rec := b.buf[start:]
	le := binary.LittleEndian
	le.PutUint32(rec[4:], uint32(len(b.entries())))
	le.PutUint32(rec[8:], b.crc)
	rec[12], rec[13], rec[14], rec[15] = byte(h.kind), 0, 0, 0
	end := recordHeaderLen
	if h.tagged {
		rec[13] = recordTagged
		putTag(rec[recordHeaderLen:], h.tag)
		end += tagLen
	}
	le.PutUint64(rec[16:], h.epoch)
	le.PutUint64(rec[24:], h.seq)
	le.PutUint64(rec[32:], h.synced)
	le.PutUint32(rec, f.Salted(walFileNumber, off, rec[4:end]))
	return rec
}

var errNoRecord = errors.New("no record")

// parseRecordHeader decodes a header at the start of b, which holds the tag,
// too, unless the file ends before.
func parseRecordHeader(b []byte, f *segment.Format, off int64, checkCRC bool) (recordHeader, error) {
	var h recordHeader
	if len(b) < recordHeaderLen {
		return h, errNoRecord
	}
	le := binary.LittleEndian
	end := recordHeaderLen
	if b[13] == recordTagged {
		end += tagLen
	}
	if len(b) < end || checkCRC && le.Uint32(b) != f.Salted(walFileNumber, off, b[4:end]) {
		return h, errNoRecord
	}
	h = recordHeader{
		length: le.Uint32(b[4:]), crc: le.Uint32(b[8:]), kind: recordType(b[12]), tagged: b[13] == recordTagged,
		epoch: le.Uint64(b[16:]), seq: le.Uint64(b[24:]), synced: le.Uint64(b[32:]),
	}
	if h.tagged {
		h.tag = parseTag(b[recordHeaderLen:])
	}
	h.totalLen = int64(end) + int64(h.length)
	if h.kind > recordEndOfFile || b[13] > recordTagged || b[14] != 0 || b[15] != 0 {
		return h, errNoRecord
	}
	return h, nil
}

// walFile is a write-ahead file in use.
type walFile struct {
	f     vfs.File
	path  string
	epoch uint64
	end   int64 // of the last record
	size  int64 // of the file
}

// A write-ahead file grows by whole steps, ahead of its records, so that one
// that was cut off is known from one that ends.
const walStep = 1 << 20

// growWAL makes the file reach to an offset and beyond.
func (s *Store) growWAL(w *walFile, end int64) error {
	if end <= w.size && w.size%s.walStep == 0 {
		return nil
	}
	size := (max(end, w.size) + s.walStep - 1) / s.walStep * s.walStep
	if err := w.f.Truncate(size); err != nil {
		return err
	}
	w.size = size
	return nil
}

func walName(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("wal-%d", i)) }

// walHeader is the head of a write-ahead file.
type walHeader struct {
	epoch    uint64
	firstSeq uint64 // of the first record in it
}

func (h walHeader) encode(f *segment.Format) []byte {
	b := make([]byte, walHeaderLen)
	le := binary.LittleEndian
	copy(b, walMagic)
	le.PutUint32(b[8:], segment.FormatVersion)
	le.PutUint64(b[16:], f.ID)
	le.PutUint64(b[24:], h.epoch)
	le.PutUint64(b[32:], h.firstSeq)
	le.PutUint32(b[walHeaderLen-4:], f.Salted(walFileNumber, 0, b[:walHeaderLen-4]))
	return b
}

// errForeign is wrapped where a file is whole, as far as can be told, but not
// for this store or this program.
var errForeign = errors.New("it was not written by this store")

func parseWALHeader(b []byte, f *segment.Format) (h walHeader, err error) {
	le := binary.LittleEndian
	if len(b) < walHeaderLen || string(b[:8]) != walMagic {
		return h, errors.New("it does not begin as a write-ahead file")
	}
	if v := le.Uint32(b[8:]); v > segment.FormatVersion {
		return h, fmt.Errorf("%w: %w", errForeign, segment.NewerFormat(v, segment.FormatVersion))
	}
	// A header that a crash tore on a new file ends in zeros.
	if le.Uint64(b[16:]) != f.ID && le.Uint32(b[walHeaderLen-4:]) != 0 {
		return h, fmt.Errorf("%w: it belongs to another store: put back the file that was here", errForeign)
	}
	if le.Uint32(b[walHeaderLen-4:]) != f.Salted(walFileNumber, 0, b[:walHeaderLen-4]) {
		return h, errors.New("the checksum of its header does not match")
	}
	return walHeader{le.Uint64(b[24:]), le.Uint64(b[32:])}, nil
}

// beginWAL makes a write-ahead file that is not in use the next one.
func (s *Store) beginWAL(slot int, h walHeader) (*walFile, error) {
	path := walName(s.dir, slot)
	f := s.walFiles[slot]
	if f == nil {
		var err error
		if f, err = s.fs.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666); err != nil {
			return nil, err
		}
		s.walFiles[slot] = f
	}
	info, err := f.Info()
	if err != nil {
		return nil, err
	}
	w := &walFile{f: f, path: path, epoch: h.epoch, end: walHeaderLen, size: info.Size}
	if err := s.growWAL(w, walHeaderLen); err != nil {
		return nil, err
	}
	head := h.encode(&s.format)
	if _, err := f.WriteAt(head, 0); err != nil {
		// A header that is there after all would say that the file before ends
		// here.
		if undoErr := s.unwrite(f, head, 0); undoErr != nil {
			return nil, errors.Join(s.poison(err), undoErr)
		}
		return nil, err
	}
	if s.durable.Load() {
		err := s.syncAlone(func() error { return errors.Join(s.syncFile(f), s.syncDir()) })
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// unwrite makes sure that a header whose write failed is not there, and so what
// follows it means nothing. One that is not there when it is read back needs no
// zeros, for which a full disk may have no block either.
func (s *Store) unwrite(f vfs.File, head []byte, off int64) error {
	got := make([]byte, len(head))
	n, err := f.ReadAt(got, off)
	if (err == nil || isEOF(err)) && !bytes.Equal(got[:n], head) {
		return nil
	}
	if _, err := f.WriteAt(make([]byte, len(head)), off); err != nil {
		return err
	}
	if s.durable.Load() {
		return s.syncAlone(func() error { return s.syncFile(f) })
	}
	return nil
}

// writeRecord writes a batch as the next record.
func (s *Store) writeRecord(w *walFile, b *batch, h recordHeader) error {
	h.epoch = w.epoch
	rec := h.put(b, &s.format, w.end)
	if err := s.growWAL(w, w.end+int64(len(rec))); err != nil {
		return err
	}
	if _, err := w.f.WriteAt(rec, w.end); err != nil {
		// What was written of it must never be replayed.
		head := rec[:len(rec)-len(b.entries())]
		if undoErr := s.unwrite(w.f, head, w.end); undoErr != nil {
			return unclear{errors.Join(s.poison(err), undoErr)}
		}
		s.punch(w.f, w.end, w.size-w.end)
		return err
	}
	w.end += int64(len(rec))
	return nil
}
