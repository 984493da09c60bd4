package logstore

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/go-partd/partd"
)

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
	h := recordHeader{kind: recordEndOfFile, epoch: old.epoch, seq: seq, synced: l.synced.Load()}
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

// missingSlot returns the place of a write-ahead file that is not there.
func (l *wal) missingSlot() int {
	for slot := range l.files {
		if _, err := l.fs.Info(walName(l.dir, slot)); errors.Is(err, os.ErrNotExist) {
			return slot
		}
	}
	return 0
}
