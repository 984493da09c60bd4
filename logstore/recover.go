package logstore

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/vfs"
)

// Recovery says what Open found in a store that had not been closed cleanly.
type Recovery struct {
	Records int64  // whole records in the write-ahead files
	Torn    bool   // the newest file ended in a torn record, which Open ignored
	Path    string // where the torn record is
	Offset  int64
}

// Recovered says what Open had to recover.
func (s *Store) Recovered() Recovery { return s.wal.found }

// liveWAL is a write-ahead file whose records are not all in segments.
type liveWAL struct {
	slot int
	f    vfs.File
	path string
	walHeader
}

// open opens the write-ahead files, with a flag of [vfs.FS], and returns those
// that hold more than the segments of a manifest, oldest first.
func (l *wal) open(m *manifest, flag int) ([]liveWAL, error) {
	var live []liveWAL
	var odd []liveWAL
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
		w := liveWAL{slot: slot, f: f, path: path}
		w.walHeader, err = l.readHeader(f)
		switch {
		case errors.Is(err, errNoRecord):
			odd = append(odd, w)
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
		return nil, nil // at most, the beginning of a file that was to be the next
	}
	slices.SortFunc(live, func(a, b liveWAL) int { return cmp.Compare(a.epoch, b.epoch) })
	for i, w := range live {
		if w.epoch != m.liveEpoch+uint64(i) {
			return nil, l.missing(m.liveEpoch+uint64(i), odd)
		}
	}
	if len(live) == 0 {
		return nil, l.missing(m.liveEpoch, odd)
	}
	if live[0].firstSeq != m.nextSeq {
		return nil, &partd.CorruptError{Path: live[0].path, Offset: 0, Err: fmt.Errorf(
			"it begins with record %d, the manifest says %d", live[0].firstSeq, m.nextSeq)}
	}
	// A file with a damaged header may be the newest one.
	for _, w := range odd {
		w.epoch, w.firstSeq = m.liveEpoch+uint64(len(live)), 0
		r, err := l.newReader(w)
		if err != nil {
			return nil, err
		}
		if _, found, err := r.find(walHeaderLen); err != nil || found {
			return nil, cmp.Or(err, error(&partd.CorruptError{Path: w.path, Offset: 0, Err: errors.New("the file's header is damaged, though records follow")}))
		}
	}
	return live, nil
}

// missing returns the error for a write-ahead file that should be there.
func (l *wal) missing(epoch uint64, odd []liveWAL) error {
	if len(odd) > 0 {
		return &partd.CorruptError{Path: odd[0].path, Offset: 0, Err: fmt.Errorf(
			"the header is damaged, and the write-ahead file of epoch %d is missing", epoch)}
	}
	slot := slices.IndexFunc(l.files[:], func(f vfs.File) bool { return f == nil })
	return &partd.CorruptError{Path: walName(l.dir, max(slot, 0)), Offset: -1, Err: fmt.Errorf(
		"the write-ahead file of epoch %d is missing", epoch)}
}

// recoverWrite turns what the write-ahead files hold into segments, and begins
// a new one.
func (s *Store) recoverWrite(found bool) error {
	var live []liveWAL
	epoch := s.catalog.man.liveEpoch
	if found {
		var err error
		if live, err = s.wal.open(&s.catalog.man, s.openFlag()); err != nil {
			return err
		}
		epoch = max(epoch, s.wal.lastEpoch) + 1
	}
	t := <-s.tables.free
	wal, err := s.recoverInto(t, live, epoch)
	if err != nil {
		s.tables.free <- t // for abandon to give back
		return err
	}
	s.wal.group.Note(s.seq - 1)
	s.activate(t, wal)
	return nil
}

// replay calls use with the entries of each record that is not in segments.
func (s *Store) replay(live []liveWAL, use func(entries []byte) error) error {
	return s.wal.replay(live, s.seq, s.catalog.files.lostBlob, func(h recordHeader, entries []byte) error {
		if err := use(entries); err != nil {
			return err
		}
		s.seq = h.seq + 1
		s.sessions.apply(h, s.opts.MaxSessions)
		s.wal.found.Records++
		return nil
	})
}

// recoverInto writes what the write-ahead files hold to segments, by way of a
// table, and begins the file of an epoch.
func (s *Store) recoverInto(t *table, live []liveWAL, epoch uint64) (_ *walFile, err error) {
	w := &bulkWriter{s: s, t: t}
	defer func() {
		if err != nil {
			w.undo()
		}
	}()
	for _, f := range s.catalog.files.files() { // the last of each kind is gone on with
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
		if err := s.syncFound(live); err != nil {
			return nil, err
		}
	}
	slot, reuse, err := s.wal.slotAfter(live, s.seq)
	if err != nil {
		return nil, err
	}
	if reuse {
		epoch = live[len(live)-1].epoch
		if err := s.wal.clearEnd(live[len(live)-2], s.wal.endBefore); err != nil {
			return nil, err
		}
		// Of what was torn there, nothing may be taken for a record of the same
		// epoch later.
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

// syncFound makes what a killed process left behind survive a loss of power.
// The next write-ahead file says where those before it end, so that they, the
// large values that they refer to, and the manifest that was found must survive
// what it survives.
func (s *Store) syncFound(live []liveWAL) error {
	return s.syncAlone(func() error {
		if err := s.syncData(s.catalog.files); err != nil {
			return err
		}
		for _, l := range live {
			if err := s.syncFile(l.f); err != nil {
				return err
			}
		}
		return s.syncDir()
	})
}

// slotAfter chooses the place of the next write-ahead file, which must not be
// that of one that is still needed. A newest file without records was begun by
// a recovery that did not finish, or right before a crash: unless it is the only
// one, it is begun anew, in its place and of its epoch, so that no number of
// such tries uses up the places or leaves a gap in the epochs.
func (l *wal) slotAfter(live []liveWAL, seq uint64) (slot int, reuse bool, err error) {
	if n := len(live); n > 1 && live[n-1].firstSeq == seq {
		return live[n-1].slot, true, nil
	}
	for slices.ContainsFunc(live, func(w liveWAL) bool { return w.slot == slot }) {
		slot++
	}
	if slot == len(l.files) {
		return 0, false, &partd.CorruptError{Path: live[len(live)-1].path, Offset: walHeaderLen, Err: errors.New(
			"it has records, though neither of the two write-ahead files before it is written out")}
	}
	return slot, false, nil
}

// recoverReadOnly holds what the write-ahead files hold in memory.
func (s *Store) recoverReadOnly(found bool) error {
	live, err := s.wal.open(&s.catalog.man, s.openFlag())
	if err != nil || !found {
		return err
	}
	b := &batch{}
	var t *table
	size := max(s.opts.Memory/8, int64(s.maxBatch)*3)
	s.tables.bits, _ = tableShape(size)
	return s.replay(live, func(entries []byte) error {
		if s.unread != nil {
			return nil // only what it says of sessions counts: the store may still be dropped
		}
		if err := s.addRecord(b, entries); err != nil {
			return err
		}
		if t == nil || !t.fits(b) {
			if int64(len(s.tables.found)+1)*size > s.opts.Memory*7/8 {
				err := fmt.Errorf("the store was not closed, and what its write-ahead files hold takes more than %d bytes of memory: open it for writing once, or give it more", s.opts.Memory)
				if s.full() != nil {
					s.unread = err
					return nil
				}
				return err
			}
			if t, err = newTable(size); err != nil {
				return err
			}
			t.loose = true
			t.refs.Store(1)
			s.tables.found = append(s.tables.found, t)
			if !t.fits(b) {
				return fmt.Errorf("%w: a record of %d bytes does not fit: give the store more memory", partd.ErrTooLarge, len(entries))
			}
		}
		t.insert(b)
		return nil
	})
}
