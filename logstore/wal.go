package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/groupsync"
	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/vfs"
)

// wal is the write-ahead files of a store. Whoever writes records, or begins or
// removes a file, holds Store.mu.
type wal struct {
	*directory
	format  *segment.Format
	step    int64 // by which files grow
	noEpoch bool  // tests take that protection out

	wasDurable bool  // when the store was opened: see manifest.durable
	maxRecord  int64 // bytes of a record that may be read

	files     [3]vfs.File
	lastEpoch uint64 // the highest that was found
	endBefore int64  // where the records end of the file before the newest that was found
	found     Recovery

	group groupsync.Group // of the records' numbers
}

type walFile struct {
	log   *wal
	f     vfs.File
	path  string
	epoch uint64
	end   int64 // of the last record
	size  int64 // of the file
}

// A write-ahead file grows by whole steps, ahead of its records, so that one
// that was cut off is known from one that ends.
const walStep = 1 << 20

// grow makes the file reach to an offset and beyond.
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

// begin makes a write-ahead file that is not in use the next one.
func (l *wal) begin(slot int, h walHeader) (*walFile, error) {
	path := walName(l.dir, slot)
	f := l.files[slot]
	if f == nil {
		var err error
		if f, err = l.fs.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666); err != nil {
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
		// A header that is there after all would say that the file before ends
		// here.
		if undoErr := l.unwrite(f, head, 0); undoErr != nil {
			return nil, errors.Join(l.poison(err), undoErr)
		}
		return nil, err
	}
	if l.durable.Load() {
		err := l.syncAlone(func() error { return errors.Join(l.syncFile(f), l.syncDir()) })
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// unwrite makes sure that a header whose write failed is not there, and so what
// follows it means nothing. One that is not there when it is read back needs no
// zeros, for which a full disk may have no block either.
func (l *wal) unwrite(f vfs.File, head []byte, off int64) error {
	got := make([]byte, len(head))
	n, err := f.ReadAt(got, off)
	if (err == nil || isEOF(err)) && !bytes.Equal(got[:n], head) {
		return nil
	}
	if _, err := f.WriteAt(make([]byte, len(head)), off); err != nil {
		return err
	}
	return l.syncIfDurable(f)
}

// syncIfDurable syncs a file of a store that is to survive a loss of power.
func (l *wal) syncIfDurable(f vfs.File) error {
	if !l.durable.Load() {
		return nil
	}
	return l.syncAlone(func() error { return l.syncFile(f) })
}

func (w *walFile) write(b *batch, h recordHeader) error {
	h.epoch = w.epoch
	rec := h.put(b, w.log.format, w.end)
	if err := w.grow(w.end + int64(len(rec))); err != nil {
		return err
	}
	if _, err := w.f.WriteAt(rec, w.end); err != nil {
		// What was written of it must never be replayed.
		head := rec[:len(rec)-len(b.entries())]
		if undoErr := w.log.unwrite(w.f, head, w.end); undoErr != nil {
			return maybeApplied{errors.Join(w.log.poison(err), undoErr)}
		}
		w.log.punch(w.f, w.end, w.size-w.end)
		return err
	}
	w.end += int64(len(rec))
	return nil
}

func (l *wal) size() (n int64, err error) {
	for _, f := range l.files {
		if f != nil {
			info, e := f.Info()
			n, err = n+info.Size, errors.Join(err, e)
		}
	}
	return n, err
}

// close closes the files. Records stay in them.
func (l *wal) close() error { return l.letGo(func(string) error { return nil }) }

func (l *wal) remove() error { return l.letGo(l.fs.Remove) }

// letGo closes the files, and calls last with the path of each.
func (l *wal) letGo(last func(path string) error) error {
	var errs []error
	for i, f := range l.files {
		if f != nil {
			errs = append(errs, f.Close(), last(walName(l.dir, i)))
			l.files[i] = nil
		}
	}
	return errors.Join(errs...)
}

// A write-ahead file that another one follows ends with a record that says so,
// or else nobody would miss the newest file if it were removed. The record is
// written once the next file is there, so that it is never wrong. It has the
// number of the first record of the next file, and no entries.

// markEnd writes that record. Without it the store is as good as before, so
// that an error is only noted. mu is held.
func (l *wal) markEnd(old, next *walFile, seq uint64) {
	slot := slices.Index(l.files[:], next.f)
	b := &batch{}
	b.reset()
	b.crc = uint32(slot)
	h := recordHeader{kind: recordEndOfFile, epoch: old.epoch, seq: seq, synced: l.group.Synced()}
	rec := h.put(b, l.format, old.end)
	err := old.grow(old.end + int64(len(rec)))
	if err == nil {
		_, err = old.f.WriteAt(rec, old.end)
	}
	l.warn(err, "the end of a write-ahead file could not be marked", "path", old.path)
}

// clearEnd overwrites the record that may be at the end of a file whose next
// one is to be begun anew. A crash meanwhile would leave that one empty, as if
// somebody had emptied it.
func (l *wal) clearEnd(w liveWAL, end int64) error {
	info, err := w.f.Info()
	if err != nil || end >= info.Size {
		return err
	}
	zeros := make([]byte, min(recordHeaderLen, info.Size-end))
	if _, err := w.f.WriteAt(zeros, end); err != nil {
		return err
	}
	return l.syncIfDurable(w.f)
}

// checkNewest refuses the newest write-ahead file that was found if it says that
// another one follows. That one may be there without a header, as a loss of
// power may leave it where nothing was ever synced, but not empty.
func (l *wal) checkNewest(r *walReader) error {
	slot := r.nextFile - 1
	if slot < 0 || slot >= len(l.files) {
		return nil
	}
	path := walName(l.dir, slot)
	why := errors.New("it is missing")
	if f := l.files[slot]; f != nil {
		h, err := l.readHeader(f)
		if errors.Is(err, errNoRecord) {
			info, err := f.Info()
			if err != nil || info.Size > 0 {
				return err // liveWALs has looked for records in it
			}
			why = errors.New("it is empty")
		} else if err != nil {
			return err
		} else {
			why = fmt.Errorf("it is of epoch %d", h.epoch)
		}
	}
	return &partd.CorruptError{Path: path, Offset: -1, Err: fmt.Errorf(
		"this should be the write-ahead file of epoch %d, with the records from %d on: %w", r.epoch+1, r.nextSeq, why)}
}
