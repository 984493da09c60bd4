package logstore

import (
	"bytes"
	"errors"
	"os"
	"slices"

	"github.com/go-partd/partd/internal/disk/groupsync"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// writeAhead manages the store's write-ahead files. Store.mu must be held to write records and to
// begin or remove files.
type writeAhead struct {
	*directory
	walFormat
	step int64 // growth step of the files

	files     [3]vfs.File
	lastEpoch uint64 // highest epoch of the files when the store was opened
	recovery  Recovery

	group groupsync.Group // tracks which records are synced
}

type walFile struct {
	log   *writeAhead
	f     vfs.File
	path  string
	epoch uint64
	end   int64 // end of the last record
	size  int64 // size of the file
}

// walStep is the growth step of write-ahead files. A file grows by whole steps before records
// are written, so a file whose size is not a multiple of walStep was truncated.
const walStep = 1 << 20

// grow extends the file at least to end.
func (w *walFile) grow(end int64) error {
	step := w.log.step
	if end <= w.size && w.size%step == 0 {
		return nil
	}
	size := (max(end, w.size) + step - 1) / step * step
	if err := w.f.Truncate(size); err != nil {
		return err
	}
	w.size = size
	return nil
}

// begin starts a write-ahead file in an unused slot.
func (l *writeAhead) begin(slot int, h walHeader) (*walFile, error) {
	path := walName(l.dir, slot)
	f := l.files[slot]
	if f == nil {
		var err error
		f, err = l.fs.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, err
		}
		l.files[slot] = f
	}
	info, err := f.Info()
	if err != nil {
		return nil, err
	}
	w := &walFile{log: l, f: f, path: path, epoch: h.epoch, end: walHeaderLen, size: info.Size}
	if err := w.grow(walHeaderLen); err != nil {
		return nil, err
	}
	head := h.encode(l.format)
	if _, err := f.WriteAt(head, 0); err != nil {
		// Despite the error, the file may contain the header. At the next Open, that header
		// would mark the end of the previous file.
		if undoErr := l.undoWrite(f, head, 0); undoErr != nil {
			return nil, errors.Join(l.poison(err), undoErr)
		}
		return nil, err
	}
	if l.durable.Load() {
		err := l.syncExclusive(func() error { return errors.Join(f.Sync(), l.syncDir()) })
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// undoWrite erases the header of a record or file whose write failed, so that replay ignores the
// data after that header. If the file does not contain the header, undoWrite writes nothing,
// because the disk may be full.
func (l *writeAhead) undoWrite(f vfs.File, head []byte, off int64) error {
	stored := make([]byte, len(head))
	n, err := f.ReadAt(stored, off)
	if (err == nil || isEOF(err)) && !bytes.Equal(stored[:n], head) {
		return nil
	}
	if _, err := f.WriteAt(make([]byte, len(head)), off); err != nil {
		return err
	}
	return l.syncIfDurable(f)
}

func (l *writeAhead) syncIfDurable(f vfs.File) error {
	if !l.durable.Load() {
		return nil
	}
	return l.syncExclusive(f.Sync)
}

func (w *walFile) write(b *batch, h recordHeader) error {
	h.epoch, h.crc = w.epoch, b.crc
	b.buf = slices.Grow(b.buf, pageLen) // space for padding
	rec := h.put(b.buf, w.log.format, w.end)
	if err := w.grow(w.end + int64(len(rec))); err != nil {
		return err
	}
	if _, err := w.f.WriteAt(w.pad(rec), w.end); err != nil {
		head := rec[:len(rec)-len(b.entries())]
		if undoErr := w.log.undoWrite(w.f, head, w.end); undoErr != nil {
			return maybeApplied{errors.Join(w.log.poison(err), undoErr)}
		}
		w.log.punch(w.f, w.end, w.size-w.end)
		return err
	}
	w.end += int64(len(rec))
	return nil
}

// pad returns a record, with zeros up to the end of its last page if the record is the first in
// that page. Without the zeros, the system would have to read a page of a reused file from the
// disk, unless the page is cached. The capacity of rec must suffice.
func (w *walFile) pad(rec []byte) []byte {
	end := w.end + int64(len(rec))
	n := min(-end&(pageLen-1), w.size-end)
	if start := end & -pageLen; w.end > start || n <= 0 {
		return rec
	}
	padded := rec[:len(rec)+int(n)]
	clear(padded[len(rec):])
	return padded
}

func (l *writeAhead) size() (n int64, err error) {
	for _, f := range l.files {
		if f != nil {
			info, e := f.Info()
			n, err = n+info.Size, errors.Join(err, e)
		}
	}
	return n, err
}

func (l *writeAhead) close() error { return l.closeEach(func(string) error { return nil }) }

func (l *writeAhead) remove() error { return l.closeEach(l.fs.Remove) }

func (l *writeAhead) closeEach(do func(path string) error) error {
	var errs []error
	for i, f := range l.files {
		if f != nil {
			errs = append(errs, f.Close(), do(walName(l.dir, i)))
			l.files[i] = nil
		}
	}
	return errors.Join(errs...)
}

// markEnd adds to the file old a record which says that the file next follows. Otherwise, Open would
// not notice the loss of next. seq is the number of next's first record. next must already exist.
// markEnd only logs errors, because the end record is additional protection. Store.mu must be held.
func (l *writeAhead) markEnd(old, next *walFile, seq uint64) {
	slot := slices.Index(l.files[:], next.f)
	buf := make([]byte, recordPrefix, recordPrefix+pageLen) // with space for padding
	h := recordHeader{kind: recordEndOfFile, crc: uint32(slot), epoch: old.epoch, seq: seq, synced: l.group.Synced()}
	rec := h.put(buf, l.format, old.end)
	err := old.grow(old.end + int64(len(rec)))
	if err == nil {
		_, err = old.f.WriteAt(old.pad(rec), old.end)
	}
	l.warn(err, "the end record of a write-ahead file could not be written", "path", old.path)
}

// clearEnd overwrites w's end record before the next file is rewritten; w's other records must have
// been read. Otherwise, a crash that leaves the next file empty would look like lost records.
func (l *writeAhead) clearEnd(w *walReader) error {
	zeros := make([]byte, min(recordHeaderLen, w.size-w.off))
	if _, err := w.f.WriteAt(zeros, w.off); err != nil {
		return err
	}
	return l.syncIfDurable(w.f)
}

// Recovery describes the data that Open recovered after a crash.
type Recovery struct {
	Records int64  // complete records in the write-ahead files
	Torn    bool   // the newest file ended with an incomplete record, which Open ignored
	Path    string // file of the incomplete record
	Offset  int64  // offset of the incomplete record
}

// sync syncs the data files and then write-ahead file w, whose records refer to them. seq is the
// last record in w.
func (l *writeAhead) sync(w *walFile, seq uint64, files *fileSet) error {
	err := l.syncExclusive(func() error {
		if err := l.syncData(files); err != nil {
			return err
		}
		return w.f.Sync()
	})
	if err != nil {
		return err
	}
	l.group.MarkSynced(seq)
	return nil
}
