package logstore

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// open opens the write-ahead files, with flag as in os.OpenFile. It returns the files with records
// that are not in segments, oldest first.
func (wal *writeAhead) open(m *manifest, flag int) ([]*walReader, error) {
	var live []*walReader
	var headless []*walReader // files with a missing or damaged header
	for slot := range wal.files {
		path := walName(wal.dir, slot)
		f, err := wal.fs.OpenFile(path, flag, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		wal.files[slot] = f
		info, err := f.Info()
		if err != nil {
			return nil, err
		}
		w := &walReader{walFormat: &wal.walFormat, slot: slot, f: f, path: path, size: info.Size, off: walHeaderLen}
		w.walHeader, err = wal.readHeader(f)
		w.nextSeq = w.firstSeq
		switch {
		case errors.Is(err, errNoRecord):
			headless = append(headless, w)
		case err != nil:
			return nil, err
		default:
			wal.lastEpoch = max(wal.lastEpoch, w.epoch)
			if w.epoch >= m.liveEpoch {
				live = append(live, w)
			}
		}
	}
	if m.clean {
		return nil, nil // a write-ahead file may exist, but it has no records
	}
	slices.SortFunc(live, func(a, b *walReader) int { return cmp.Compare(a.epoch, b.epoch) })
	for i, w := range live {
		if w.epoch != m.liveEpoch+uint64(i) {
			return nil, wal.missingError(m.liveEpoch+uint64(i), headless)
		}
	}
	if len(live) == 0 {
		return nil, wal.missingError(m.liveEpoch, headless)
	}
	if live[0].firstSeq != m.nextSeq {
		return nil, &partd.CorruptError{Path: live[0].path, Offset: 0, Err: fmt.Errorf(
			"it begins with record %d, but the manifest says %d", live[0].firstSeq, m.nextSeq)}
	}
	// A crash may leave the newest file with an incomplete header, but then it has no records.
	for _, w := range headless {
		w.epoch = m.liveEpoch + uint64(len(live))
		if _, exists, err := w.findHeader(walHeaderLen); err != nil || exists {
			return nil, cmp.Or(err, error(&partd.CorruptError{
				Path: w.path, Offset: 0, Err: errors.New("the header is damaged, but records follow it"),
			}))
		}
	}
	return live, nil
}

func (wal *writeAhead) missingError(epoch uint64, headless []*walReader) error {
	if len(headless) > 0 {
		return &partd.CorruptError{Path: headless[0].path, Offset: 0, Err: fmt.Errorf(
			"the header is damaged, and the write-ahead file of epoch %d is missing", epoch)}
	}
	slot := slices.IndexFunc(wal.files[:], func(f vfs.File) bool { return f == nil })
	return &partd.CorruptError{Path: walName(wal.dir, max(slot, 0)), Offset: -1, Err: fmt.Errorf(
		"the write-ahead file of epoch %d is missing", epoch)}
}

// nextSlot returns the slot for the next write-ahead file; seq is the number of its first record.
// If a crash left the newest of several files without records, that file must be reused with the
// same epoch. Otherwise, repeated crashes would use up the slots.
func (wal *writeAhead) nextSlot(live []*walReader, seq uint64) (slot int, reuse bool, err error) {
	if n := len(live); n > 1 && live[n-1].firstSeq == seq {
		return live[n-1].slot, true, nil
	}
	for slices.ContainsFunc(live, func(w *walReader) bool { return w.slot == slot }) {
		slot++
	}
	if slot == len(wal.files) {
		return 0, false, &partd.CorruptError{Path: live[len(live)-1].path, Offset: walHeaderLen, Err: errors.New(
			"it has records, but neither of the two write-ahead files before it was written to segments")}
	}
	return slot, false, nil
}

// checkNewest returns an error if the newest write-ahead file has an end record, but the file that
// should follow is missing, empty, or from another epoch. A following file with data but no header
// is not an error, because a power loss can lose the header of an unsynced file.
func (wal *writeAhead) checkNewest(r *walReader) error {
	slot := r.nextFile - 1
	if slot < 0 || slot >= len(wal.files) {
		return nil
	}
	path := walName(wal.dir, slot)
	reason := errors.New("it is missing")
	if f := wal.files[slot]; f != nil {
		h, err := wal.readHeader(f)
		if errors.Is(err, errNoRecord) {
			info, err := f.Info()
			if err != nil || info.Size > 0 {
				return err // open has checked that the file contains no records
			}
			reason = errors.New("it is empty")
		} else if err != nil {
			return err
		} else {
			reason = fmt.Errorf("its epoch is %d", h.epoch)
		}
	}
	return &partd.CorruptError{Path: path, Offset: -1, Err: fmt.Errorf(
		"this should be the write-ahead file of epoch %d, with the records from %d on: %w", r.epoch+1, r.nextSeq, reason)}
}
