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
	wal   *writeAhead
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
	step := w.wal.step
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
func (wal *writeAhead) begin(slot int, h walHeader) (*walFile, error) {
	path := walName(wal.dir, slot)
	f := wal.files[slot]
	if f == nil {
		var err error
		f, err = wal.fs.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, err
		}
		wal.files[slot] = f
	}
	info, err := f.Info()
	if err != nil {
		return nil, err
	}
	w := &walFile{wal: wal, f: f, path: path, epoch: h.epoch, end: walHeaderLen, size: info.Size}
	if err := w.grow(walHeaderLen); err != nil {
		return nil, err
	}
	head := h.encode(wal.format)
	if _, err := f.WriteAt(head, 0); err != nil {
		// The header may have reached the disk despite the error. The next Open would then stop
		// replaying the previous file at firstSeq.
		if undoErr := wal.undoWrite(f, head, 0); undoErr != nil {
			return nil, errors.Join(wal.poison(err), undoErr)
		}
		return nil, err
	}
	if wal.durable.Load() {
		err := wal.syncExclusive(func() error { return errors.Join(f.Sync(), wal.syncDir()) })
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// undoWrite erases the header of a record or file whose write failed, so that replay ignores the
// data after that header. If the header never reached the file, undoWrite writes nothing: on a full
// disk, that write would fail too.
func (wal *writeAhead) undoWrite(f vfs.File, head []byte, off int64) error {
	stored := make([]byte, len(head))
	n, err := f.ReadAt(stored, off)
	if (err == nil || isEOF(err)) && !bytes.Equal(stored[:n], head) {
		return nil
	}
	if _, err := f.WriteAt(make([]byte, len(head)), off); err != nil {
		return err
	}
	return wal.syncIfDurable(f)
}

func (wal *writeAhead) syncIfDurable(f vfs.File) error {
	if !wal.durable.Load() {
		return nil
	}
	return wal.syncExclusive(f.Sync)
}

func (w *walFile) write(b *batch, h recordHeader) error {
	h.epoch, h.crc = w.epoch, b.crc
	b.buf = slices.Grow(b.buf, pageLen) // space for padding
	rec := h.put(b.buf, w.wal.format, w.end)
	if err := w.grow(w.end + int64(len(rec))); err != nil {
		return err
	}
	if _, err := w.f.WriteAt(w.pad(rec), w.end); err != nil {
		head := rec[:len(rec)-len(b.entries())]
		if undoErr := w.wal.undoWrite(w.f, head, w.end); undoErr != nil {
			return maybeApplied{errors.Join(w.wal.poison(err), undoErr)}
		}
		w.wal.punch(w.f, w.end, w.size-w.end)
		return err
	}
	w.end += int64(len(rec))
	return nil
}

// pad appends zeros to rec up to the end of its last page, unless an earlier record shares that
// page. Without the zeros, the system would have to read a page of a reused file from the disk,
// unless the page is cached. rec must have room for the zeros.
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

func (wal *writeAhead) size() (n int64, err error) {
	for _, f := range wal.files {
		if f != nil {
			info, e := f.Info()
			n, err = n+info.Size, errors.Join(err, e)
		}
	}
	return n, err
}

func (wal *writeAhead) close() error { return wal.closeEach(func(string) error { return nil }) }

func (wal *writeAhead) remove() error { return wal.closeEach(wal.fs.Remove) }

func (wal *writeAhead) closeEach(do func(path string) error) error {
	var errs []error
	for i, f := range wal.files {
		if f != nil {
			errs = append(errs, f.Close(), do(walName(wal.dir, i)))
			wal.files[i] = nil
		}
	}
	return errors.Join(errs...)
}

// markEnd appends to old an end record that names next as the following file. Without it, Open would
// not notice the loss of next. seq is the number of next's first record. next must already exist.
// markEnd only logs errors, because the end record is additional protection. Store.mu must be held.
func (wal *writeAhead) markEnd(old, next *walFile, seq uint64) {
	slot := slices.Index(wal.files[:], next.f)
	buf := make([]byte, recordPrefix, recordPrefix+pageLen) // with space for padding
	h := recordHeader{kind: recordEndOfFile, crc: uint32(slot), epoch: old.epoch, seq: seq, synced: wal.group.Synced()}
	rec := h.put(buf, wal.format, old.end)
	err := old.grow(old.end + int64(len(rec)))
	if err == nil {
		_, err = old.f.WriteAt(old.pad(rec), old.end)
	}
	wal.warn(err, "the end record of a write-ahead file could not be written", "path", old.path)
}

// clearEnd overwrites w's end record before the next file is rewritten; w's other records must have
// been read. Without this, a crash that leaves the next file empty would look like lost records.
func (wal *writeAhead) clearEnd(w *walReader) error {
	zeros := make([]byte, min(recordHeaderLen, w.size-w.off))
	if _, err := w.f.WriteAt(zeros, w.off); err != nil {
		return err
	}
	return wal.syncIfDurable(w.f)
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
func (wal *writeAhead) sync(w *walFile, seq uint64, files *fileSet) error {
	err := wal.syncExclusive(func() error {
		if err := wal.syncData(files); err != nil {
			return err
		}
		return w.f.Sync()
	})
	if err != nil {
		return err
	}
	wal.group.MarkSynced(seq)
	return nil
}
