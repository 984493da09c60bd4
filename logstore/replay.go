package logstore

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
)

// replay reads all records that are not in segments.
func (s *Store) replay(live []liveWAL, use func(h recordHeader, entries []byte) error) error {
	for i, w := range live {
		newest := i == len(live)-1
		if w.firstSeq != s.seq {
			return &partd.CorruptError{Path: w.path, Offset: 0, Err: fmt.Errorf(
				"it begins with record %d, %d should come next", w.firstSeq, s.seq)}
		}
		var until uint64
		if !newest {
			until = live[i+1].firstSeq
		}
		if err := s.replayFile(w, newest, until, use); err != nil {
			return err
		}
	}
	return nil
}

// replayFile reads a file's records, up to one that belongs to the next file.
func (s *Store) replayFile(w liveWAL, newest bool, until uint64, use func(h recordHeader, entries []byte) error) error {
	synced, err := s.syncedIn(w)
	if err != nil {
		return err
	}
	r, err := s.newWALReader(w.f, w.path, w.walHeader)
	if err != nil {
		return err
	}
	for newest || s.seq < until {
		at := r.off
		h, entries, err := r.next()
		if err == nil && newest && s.man.durable && h.seq > synced {
			if err = s.lostBlob(entries); err == errNoRecord {
				r.off, r.nextSeq = at, h.seq
			}
		}
		if errors.Is(err, errNoRecord) {
			if !newest {
				return &partd.CorruptError{Path: w.path, Offset: r.off, Err: fmt.Errorf("record %d should be here, but is damaged", r.nextSeq)}
			}
			return s.endOfLog(r)
		}
		if err != nil {
			return err
		}
		if err := use(h, entries); err != nil {
			if errors.Is(err, segment.ErrBadEntry) || errors.Is(err, segment.ErrShortEntry) {
				err = &partd.CorruptError{Path: w.path, Offset: at, Err: err}
			}
			return err
		}
		s.seq = h.seq + 1
		s.sessions.apply(h, s.opts.MaxSessions)
		s.recovery.Records++
	}
	s.endBefore = r.off
	return nil
}

// endOfLog judges where the newest file ends.
func (s *Store) endOfLog(r *walReader) error {
	if err := s.checkNewest(r); err != nil {
		return err
	}
	// A loss of power may leave any size.
	if !s.man.durable && r.size%s.walStep != 0 {
		return &partd.CorruptError{Path: r.path, Offset: r.size, Err: errors.New("the file is cut off")}
	}
	if !s.hooks.noCRC && !s.hooks.noEpoch {
		if err := r.damage(); err != nil {
			return err
		}
	}
	if r.sawBytes {
		s.recovery.Torn, s.recovery.Path, s.recovery.Offset = true, r.path, r.off
		s.log.Warn("logstore: a torn record at the end of the newest write-ahead file was left out", "path", r.path, "offset", r.off)
	}
	return nil
}

// syncedIn returns the last record that a file's records know to be synced.
func (s *Store) syncedIn(w liveWAL) (uint64, error) {
	if !s.man.durable {
		return 0, nil
	}
	r, err := s.newWALReader(w.f, w.path, w.walHeader)
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
func (s *Store) lostBlob(entries []byte) error {
	for len(entries) > 0 {
		e, err := segment.ParseEntry(entries)
		if err != nil {
			return nil // for the caller to notice
		}
		entries = entries[len(e.Raw):]
		if e.Kind != segment.KindBlob {
			continue
		}
		err = s.files.eachBlock(e.Value, func([]byte) error { return nil })
		var lost *partd.CorruptError
		if errors.As(err, &lost) || errors.Is(err, errNoBlobFile) {
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
		if err := s.files.accountAll(&b.ledger, &e); err != nil {
			return err
		}
		b.addRaw(e.Raw, s.format.HashBytes(e.Key), s.partBits)
		entries = entries[len(e.Raw):]
	}
	return nil
}
