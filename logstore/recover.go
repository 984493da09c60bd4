package logstore

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/segment"
)

// Recovery describes the data that Open recovered after a crash.
type Recovery struct {
	Records int64  // complete records in the write-ahead files
	Torn    bool   // the newest file ended with an incomplete record, which Open ignored
	Path    string // file of the incomplete record
	Offset  int64  // offset of the incomplete record
}

// Recovery describes the data that Open recovered.
func (s *Store) Recovery() Recovery { return s.wal.recovery }

// open opens the write-ahead files, with flag as in os.OpenFile. It returns the files with records
// that are not in segments, oldest first.
func (l *wal) open(m *manifest, flag int) ([]*walReader, error) {
	var live []*walReader
	var headless []*walReader // files with a missing or damaged header
	for slot := range l.files {
		path := walName(l.dir, slot)
		f, err := l.fs.OpenFile(path, flag, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		l.files[slot] = f
		info, err := f.Info()
		if err != nil {
			return nil, err
		}
		w := &walReader{log: l, slot: slot, f: f, path: path, size: info.Size, off: walHeaderLen}
		w.walHeader, err = l.readHeader(f)
		w.nextSeq = w.firstSeq
		switch {
		case errors.Is(err, errNoRecord):
			headless = append(headless, w)
		case err != nil:
			return nil, err
		default:
			l.lastEpoch = max(l.lastEpoch, w.epoch)
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
			return nil, l.missingError(m.liveEpoch+uint64(i), headless)
		}
	}
	if len(live) == 0 {
		return nil, l.missingError(m.liveEpoch, headless)
	}
	if live[0].firstSeq != m.nextSeq {
		return nil, &partd.CorruptError{Path: live[0].path, Offset: 0, Err: fmt.Errorf(
			"it begins with record %d, but the manifest says %d", live[0].firstSeq, m.nextSeq)}
	}
	// A crash may leave the newest file with an incomplete header, but then it has no records.
	for _, w := range headless {
		w.epoch = m.liveEpoch + uint64(len(live))
		if _, exists, err := w.findHeader(walHeaderLen); err != nil || exists {
			return nil, cmp.Or(err, error(&partd.CorruptError{Path: w.path, Offset: 0, Err: errors.New("the header is damaged, but records follow it")}))
		}
	}
	return live, nil
}

func (l *wal) missingError(epoch uint64, headless []*walReader) error {
	if len(headless) > 0 {
		return &partd.CorruptError{Path: headless[0].path, Offset: 0, Err: fmt.Errorf(
			"the header is damaged, and the write-ahead file of epoch %d is missing", epoch)}
	}
	slot := slices.IndexFunc(l.files[:], func(f vfs.File) bool { return f == nil })
	return &partd.CorruptError{Path: walName(l.dir, max(slot, 0)), Offset: -1, Err: fmt.Errorf(
		"the write-ahead file of epoch %d is missing", epoch)}
}

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

// nextSlot returns the slot for the next write-ahead file; seq is the number of its first record.
// If the newest of several files has no records, because of a crash, it must be reused with the
// same epoch. Otherwise, repeated crashes would use up the slots.
func (l *wal) nextSlot(live []*walReader, seq uint64) (slot int, reuse bool, err error) {
	if n := len(live); n > 1 && live[n-1].firstSeq == seq {
		return live[n-1].slot, true, nil
	}
	for slices.ContainsFunc(live, func(w *walReader) bool { return w.slot == slot }) {
		slot++
	}
	if slot == len(l.files) {
		return 0, false, &partd.CorruptError{Path: live[len(live)-1].path, Offset: walHeaderLen, Err: errors.New(
			"it has records, but neither of the two write-ahead files before it was written to segments")}
	}
	return slot, false, nil
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
