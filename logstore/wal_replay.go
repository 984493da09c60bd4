package logstore

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
)

// replay calls use for all records that are not in segments, from number seq on. checkBlobs returns
// errNoRecord for a record with a missing large value. If no sync covered that record, the log ends
// before it.
func (l *writeAhead) replay(
	live []*walReader, seq uint64,
	checkBlobs func(entries []byte) error, use func(h recordHeader, entries []byte) error,
) error {
	for i, r := range live {
		if r.firstSeq != seq {
			return &partd.CorruptError{Path: r.path, Offset: 0, Err: fmt.Errorf(
				"it begins with record %d, but %d should come next", r.firstSeq, seq)}
		}
		if i == len(live)-1 {
			return l.replayNewest(r, checkBlobs, use)
		}
		for r.nextSeq < live[i+1].firstSeq {
			err := r.replayNext(use, nil)
			if errors.Is(err, errNoRecord) {
				err = &partd.CorruptError{Path: r.path, Offset: r.off, Err: fmt.Errorf("record %d is damaged", r.nextSeq)}
			}
			if err != nil {
				return err
			}
		}
		seq, r.buf = r.nextSeq, nil // only one file's buffer is in memory
	}
	return nil
}

func (l *writeAhead) replayNewest(
	r *walReader, checkBlobs func(entries []byte) error, use func(h recordHeader, entries []byte) error,
) error {
	synced, err := l.lastSynced(*r)
	if err != nil {
		return err
	}
	check := func(h recordHeader, entries []byte) error {
		if !l.wasDurable || h.seq <= synced {
			return nil
		}
		return checkBlobs(entries)
	}
	for {
		if err := r.replayNext(use, check); errors.Is(err, errNoRecord) {
			return l.checkLogEnd(r)
		} else if err != nil {
			return err
		}
	}
}

// replayNext reads the next record and passes it to use. check can reject the record by
// returning errNoRecord.
func (r *walReader) replayNext(use, check func(h recordHeader, entries []byte) error) error {
	off := r.off
	h, entries, err := r.next()
	if err == nil && check != nil {
		err = check(h, entries)
		if err == errNoRecord {
			r.off, r.nextSeq = off, h.seq
		}
	}
	if err != nil {
		return err
	}
	err = use(h, entries)
	if errors.Is(err, segment.ErrBadEntry) || errors.Is(err, segment.ErrShortEntry) {
		err = &partd.CorruptError{Path: r.path, Offset: off, Err: err}
	}
	return err
}

// checkLogEnd returns an error if the newest file is truncated, or damaged before its end.
func (l *writeAhead) checkLogEnd(r *walReader) error {
	if err := l.checkNewest(r); err != nil {
		return err
	}
	// A power loss can leave the file with any size, but only a store that was synced must
	// survive one. In any other store, a size that is not a multiple of step means truncation.
	if !l.wasDurable && r.size%l.step != 0 {
		return &partd.CorruptError{Path: r.path, Offset: r.size, Err: errors.New("the file is truncated")}
	}
	if err := r.damageError(); err != nil {
		return err
	}
	if r.resemblesRecord {
		l.recovery.Torn, l.recovery.Path, l.recovery.Offset = true, r.path, r.off
		l.log.Warn("logstore: skipped a torn record at the end of the newest write-ahead file", "path", r.path, "offset", r.off)
	}
	return nil
}

// lastSynced returns the number of the last record known to be synced. Each record contains the
// number of the last record that was synced when it was written.
func (l *writeAhead) lastSynced(r walReader) (uint64, error) {
	if !l.wasDurable {
		return 0, nil
	}
	var synced uint64
	for {
		h, _, err := r.next()
		if errors.Is(err, errNoRecord) {
			return synced, nil
		}
		if err != nil {
			return 0, err
		}
		synced = max(synced, h.synced)
	}
}
