package logstore

import (
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
)

// Recovery describes the data that Open recovered.
func (s *Store) Recovery() Recovery { return s.wal.recovery }

// recoverWrite writes the records of the write-ahead files as segments, and begins a new
// write-ahead file.
func (s *Store) recoverWrite(storeExists bool) error {
	var live []*walReader
	epoch := s.catalog.manifest.liveEpoch
	if storeExists {
		var err error
		if live, err = s.wal.open(&s.catalog.manifest, s.openFlag()); err != nil {
			return err
		}
		epoch = max(epoch, s.wal.lastEpoch) + 1
	}
	t := <-s.tables.free
	wal, err := s.recoverInto(t, live, epoch)
	if err != nil {
		s.tables.free <- t // releaseAll frees it
		return err
	}
	s.wal.group.MarkSynced(s.seq - 1)
	s.activate(t, wal)
	return nil
}

func (s *Store) replay(live []*walReader, use func(entries []byte) error) error {
	return s.wal.replay(live, s.seq, s.catalog.files.checkBlobs, func(h recordHeader, entries []byte) error {
		if err := use(entries); err != nil {
			return err
		}
		s.seq = h.seq + 1
		s.sessions.apply(h, s.opts.MaxSessions)
		s.wal.recovery.Records++
		return nil
	})
}

// recoverInto writes the records of the live files as segments, using table t, and begins a
// write-ahead file with the given epoch.
func (s *Store) recoverInto(t *table, live []*walReader, epoch uint64) (_ *walFile, err error) {
	w := &bulkWriter{s: s, t: t}
	defer func() {
		if err != nil {
			w.undo()
		}
	}()
	for _, f := range s.catalog.files.files() { // new data goes to the last file of each kind
		if f.Kind == segment.SegmentFile {
			s.sealer.file = f
		} else {
			s.blobs.file = f
		}
	}
	b := &batch{}
	err = s.replay(live, func(entries []byte) error {
		if err := s.addRecord(b, entries); err != nil {
			return err
		}
		return w.add(b)
	})
	if err != nil {
		return nil, err
	}
	if s.durable.Load() && len(live) > 0 {
		if err := s.catalog.syncRecovered(live); err != nil {
			return nil, err
		}
	}
	slot, reuse, err := s.wal.nextSlot(live, s.seq)
	if err != nil {
		return nil, err
	}
	if reuse {
		epoch = live[len(live)-1].epoch
		if err := s.wal.clearEnd(live[len(live)-2]); err != nil {
			return nil, err
		}
		// Remove an incomplete record from the file. The incomplete record has the same epoch as
		// the new records, so it could be mistaken for one of them.
		if err := s.wal.files[slot].Truncate(0); err != nil {
			return nil, err
		}
	}
	wal, err := s.wal.begin(slot, walHeader{epoch: epoch, firstSeq: s.seq})
	if err != nil {
		return nil, err
	}
	if err := w.finish(func(m *manifest) {
		m.liveEpoch, m.nextSeq, m.sessions, m.clean = epoch, s.seq, s.sessions.clone(), false
	}); err != nil {
		return nil, err
	}
	s.segments.list = append(s.segments.list, w.segments...)
	return wal, nil
}

// syncRecovered syncs data that a killed process may not have synced. It must run before the next
// write-ahead file is created, whose header says how many records the earlier files have.
func (c *catalog) syncRecovered(live []*walReader) error {
	return c.syncExclusive(func() error {
		if err := c.syncData(c.files); err != nil {
			return err
		}
		for _, l := range live {
			if err := l.f.Sync(); err != nil {
				return err
			}
		}
		return c.syncDir()
	})
}

// recoverReadOnly loads the records of the write-ahead files into memory.
func (s *Store) recoverReadOnly(storeExists bool) error {
	live, err := s.wal.open(&s.catalog.manifest, s.openFlag())
	if err != nil || !storeExists {
		return err
	}
	b := &batch{}
	var t *table
	size := max(s.opts.Memory/8, int64(s.maxBatch)*3)
	s.tables.bits, _ = tableShape(size)
	return s.replay(live, func(entries []byte) error {
		if s.walErr != nil {
			return nil // only Drop will be possible, and Drop keeps only sessions: replay nothing else
		}
		if err := s.addRecord(b, entries); err != nil {
			return err
		}
		if t == nil || !t.fits(b) {
			if int64(len(s.tables.walTables)+1)*size > s.opts.Memory*7/8 {
				err := fmt.Errorf("the store was not closed, and its write-ahead files need more than %d bytes of memory: open it once for writing, or increase the option Memory", s.opts.Memory)
				if s.fullError() != nil {
					s.walErr = err
					return nil
				}
				return err
			}
			if t, err = newTable(size); err != nil {
				return err
			}
			t.temporary = true
			t.refs.Store(1)
			s.tables.walTables = append(s.tables.walTables, t)
			if !t.fits(b) {
				return fmt.Errorf("%w: a record of %d bytes does not fit: increase the option Memory", partd.ErrTooLarge, len(entries))
			}
		}
		t.insert(b)
		return nil
	})
}

func (s *Store) addRecord(b *batch, entries []byte) error {
	b.reset()
	for len(entries) > 0 {
		e, err := segment.ParseEntry(entries)
		if err != nil {
			return err
		}
		if err := s.catalog.files.addEntry(&b.ledger, &e); err != nil {
			return err
		}
		b.push(len(b.buf), append(b.buf, e.Raw...), s.format.HashBytes(e.Key), s.tables.bits)
		entries = entries[len(e.Raw):]
	}
	return nil
}
