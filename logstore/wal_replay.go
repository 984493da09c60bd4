package logstore

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
)

// replay calls apply for all records that are not in segments, from number seq on. checkBlobs returns
// errNoRecord for a record with a missing large value. If no sync covered that record, the log ends
// before it.
func (wal *writeAhead) replay(
	live []*walReader, seq uint64,
	checkBlobs func(entries []byte) error, apply func(h recordHeader, entries []byte) error,
) error {
	for i, r := range live {
		if r.firstSeq != seq {
			return &partd.CorruptError{Path: r.path, Offset: 0, Err: fmt.Errorf(
				"it begins with record %d, but %d should come next", r.firstSeq, seq)}
		}
		if i == len(live)-1 {
			return wal.replayNewest(r, checkBlobs, apply)
		}
		for r.nextSeq < live[i+1].firstSeq {
			err := r.replayNext(apply, nil)
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

func (wal *writeAhead) replayNewest(
	r *walReader, checkBlobs func(entries []byte) error, apply func(h recordHeader, entries []byte) error,
) error {
	synced, err := wal.lastSynced(*r)
	if err != nil {
		return err
	}
	check := func(h recordHeader, entries []byte) error {
		if !wal.wasDurable || h.seq <= synced {
			return nil
		}
		return checkBlobs(entries)
	}
	for {
		if err := r.replayNext(apply, check); errors.Is(err, errNoRecord) {
			return wal.checkLogEnd(r)
		} else if err != nil {
			return err
		}
	}
}

// replayNext reads the next record and calls apply with it. check can reject the record by returning
// errNoRecord; nil accepts every record.
func (r *walReader) replayNext(apply, check func(h recordHeader, entries []byte) error) error {
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
	err = apply(h, entries)
	if errors.Is(err, segment.ErrBadEntry) || errors.Is(err, segment.ErrShortEntry) {
		err = &partd.CorruptError{Path: r.path, Offset: off, Err: err}
	}
	return err
}

// checkLogEnd returns an error if the newest file is truncated, or damaged before its end.
func (wal *writeAhead) checkLogEnd(r *walReader) error {
	if err := wal.checkNewest(r); err != nil {
		return err
	}
	// A power loss can leave the file with any size, but only a store that was synced must
	// survive one. In any other store, a size that is not a multiple of step means truncation.
	if !wal.wasDurable && r.size%wal.step != 0 {
		return &partd.CorruptError{Path: r.path, Offset: r.size, Err: errors.New("the file is truncated")}
	}
	if err := r.damageError(); err != nil {
		return err
	}
	if r.resemblesRecord {
		wal.recovery.Torn, wal.recovery.Path, wal.recovery.Offset = true, r.path, r.off
		wal.log.Warn("logstore: skipped a torn record at the end of the newest write-ahead file", "path", r.path, "offset", r.off)
	}
	return nil
}

// lastSynced returns the number of the last record known to be synced. Each record contains the
// number of the last record that was synced when it was written.
func (wal *writeAhead) lastSynced(r walReader) (uint64, error) {
	if !wal.wasDurable {
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
