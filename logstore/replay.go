package logstore

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
)

// replay reads all records that are not in segments, of which the first has a
// number. lost returns errNoRecord for entries that refer to what is not there.
func (l *wal) replay(live []liveWAL, seq uint64, lost func(entries []byte) error, use func(h recordHeader, entries []byte) error) error {
	for i, w := range live {
		if w.firstSeq != seq {
			return &partd.CorruptError{Path: w.path, Offset: 0, Err: fmt.Errorf(
				"it begins with record %d, %d should come next", w.firstSeq, seq)}
		}
		r, err := l.newReader(w)
		if err != nil {
			return err
		}
		if i == len(live)-1 {
			return l.replayNewest(r, w, lost, use)
		}
		for r.nextSeq < live[i+1].firstSeq {
			err := r.replayNext(use, nil)
			if errors.Is(err, errNoRecord) {
				err = &partd.CorruptError{Path: w.path, Offset: r.off, Err: fmt.Errorf("record %d should be here, but is damaged", r.nextSeq)}
			}
			if err != nil {
				return err
			}
		}
		seq, l.endBefore = r.nextSeq, r.off
	}
	return nil
}

// replayNewest reads the records of the newest file, up to its end.
func (l *wal) replayNewest(r *walReader, w liveWAL, lost func(entries []byte) error, use func(h recordHeader, entries []byte) error) error {
	synced, err := l.syncedIn(w)
	if err != nil {
		return err
	}
	check := func(h recordHeader, entries []byte) error {
		if !l.wasDurable || h.seq <= synced {
			return nil
		}
		return lost(entries)
	}
	for {
		if err := r.replayNext(use, check); errors.Is(err, errNoRecord) {
			return l.endOfLog(r)
		} else if err != nil {
			return err
		}
	}
}

// replayNext reads a record, unless check finds that it is none.
func (r *walReader) replayNext(use, check func(h recordHeader, entries []byte) error) error {
	at := r.off
	h, entries, err := r.next()
	if err == nil && check != nil {
		if err = check(h, entries); err == errNoRecord {
			r.off, r.nextSeq = at, h.seq
		}
	}
	if err != nil {
		return err
	}
	if err = use(h, entries); errors.Is(err, segment.ErrBadEntry) || errors.Is(err, segment.ErrShortEntry) {
		err = &partd.CorruptError{Path: r.path, Offset: at, Err: err}
	}
	return err
}

// endOfLog judges where the newest file ends.
func (l *wal) endOfLog(r *walReader) error {
	if err := l.checkNewest(r); err != nil {
		return err
	}
	// A loss of power may leave any size.
	if !l.wasDurable && r.size%l.step != 0 {
		return &partd.CorruptError{Path: r.path, Offset: r.size, Err: errors.New("the file is cut off")}
	}
	if !l.format.NoCRC && !l.noEpoch {
		if err := r.damage(); err != nil {
			return err
		}
	}
	if r.sawBytes {
		l.found.Torn, l.found.Path, l.found.Offset = true, r.path, r.off
		l.log.Warn("logstore: skipped a torn record at the end of the newest write-ahead file", "path", r.path, "offset", r.off)
	}
	return nil
}

// syncedIn returns the last record that a file's records know to be synced.
func (l *wal) syncedIn(w liveWAL) (uint64, error) {
	if !l.wasDurable {
		return 0, nil
	}
	r, err := l.newReader(w)
	if err != nil {
		return 0, err
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

// lostBlob returns errNoRecord if an entry refers to a large value that is not
// there. It may, where power was lost before either was synced. One that cannot
// be read is not lost.
func (fs *fileSet) lostBlob(entries []byte) error {
	for len(entries) > 0 {
		e, err := segment.ParseEntry(entries)
		if err != nil {
			return nil // for the caller to notice
		}
		entries = entries[len(e.Raw):]
		if e.Kind != segment.KindBlob {
			continue
		}
		err = fs.eachBlock(e.Value, ignore)
		if errors.As(err, new(*partd.CorruptError)) {
			return errNoRecord
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// addRecord encodes a record's entries again, for a table.
func (s *Store) addRecord(b *batch, entries []byte) error {
	b.reset()
	for len(entries) > 0 {
		e, err := segment.ParseEntry(entries)
		if err != nil {
			return err
		}
		if err := s.catalog.files.accountAll(&b.ledger, &e); err != nil {
			return err
		}
		b.push(len(b.buf), append(b.buf, e.Raw...), s.format.HashBytes(e.Key), s.tables.bits)
		entries = entries[len(e.Raw):]
	}
	return nil
}
