package logstore

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
)

// A disk may be so full that opening a store for writing, which begins a
// write-ahead file and writes out what is in the old ones, has no room. The
// store is then opened all the same: it is read, and can be dropped, which
// gives the room back. For the manifest of the empty store there is a spare file.

const (
	spareName = "MANIFEST.spare"
	spareMore = 16 << 10 // its length beyond that of the manifest
)

// isFull reports whether an error says that the disk, or what one may use of it,
// is full.
func isFull(err error) bool { return err != nil && (isNoSpace(err) || errors.Is(err, errNoRoom)) }

var errNoRoom = errors.New("the disk is full, so the store can only be read and dropped until there is room and it is opened again")

// full returns the error of a change to a store on a full disk, or nil.
func (s *Store) full() error {
	if p := s.fullErr.Load(); p != nil {
		return fmt.Errorf("%w (%w)", errNoRoom, *p)
	}
	return nil
}

// startOrReadOnly opens the store. On a full disk it removes what an interrupted
// operation left, tries once more, and then does without writing.
func (s *Store) startOrReadOnly(fresh func() *Store) (*Store, error) {
	err := s.start()
	if !isFull(err) || s.opts.ReadOnly {
		return s, err
	}
	if _, e := s.fs.Info(filepath.Join(s.dir, manifestName)); e != nil || s.catalog.files == nil {
		return s, err // there is nothing to read or drop
	}
	// Where the outcome of a write is unknown, nobody knows what is left over; and
	// a second sync would say nothing of what the first could not write.
	sure := s.poisoned() == nil && s.syncAlone(s.syncDir) == nil
	if sure {
		s.warn(s.catalog.removeLeftovers(), "what an interrupted operation left behind could not be removed")
	}
	if e := s.abandon(); e != nil {
		return fresh(), errors.Join(err, e)
	}
	s = fresh()
	if sure {
		again := s.start()
		if !isFull(again) {
			return s, again
		}
		if e := s.abandon(); e != nil {
			return fresh(), errors.Join(err, e)
		}
		s = fresh()
	}
	s.fullErr.Store(&err)
	if e := s.start(); e != nil {
		return s, errors.Join(err, e)
	}
	s.log.Warn("logstore: the disk is full: the store can only be read and dropped", "dir", s.dir, "err", err)
	return s, nil
}

// dropFull drops a store without a new write-ahead file, because of a full disk,
// and begins one if there is room then: for t if that is not nil. life and mu
// are held.
func (s *Store) dropFull(h recordHeader, t *table, why error) error {
	sessions := s.sessions.clone()
	sessions.apply(h, s.opts.MaxSessions)
	s.emptied = false
	if s.tables.active != nil {
		s.wal.lastEpoch = max(s.wal.lastEpoch, s.tables.active.wal.epoch)
	}
	err := s.catalog.edit(func(m *manifest) {
		m.empty(max(m.liveEpoch, s.wal.lastEpoch)+1, s.seq, sessions)
		m.clean = true
	})
	if err != nil {
		return outcome(err)
	}
	s.sessions, s.unread = sessions, nil
	s.fullErr.Store(&why)
	used := s.tables.inUse()
	s.tables.active, s.tables.frozen, s.tables.found, s.sealErr = nil, nil, nil, nil
	s.tables.unrefAll(used, t)
	s.warn(s.wal.remove(), "a write-ahead file of a dropped store could not be removed; it will be used again")
	s.forgetFiles()
	if err := s.leaveFull(t); err != nil {
		// The store is dropped: that is all that was asked for.
		s.log.Warn("logstore: the disk is still full after the drop", "dir", s.dir, "err", err)
		s.emptied = true
	}
	return nil
}

// leaveFull makes the dropped store take changes again, with t as the active
// table if that is not nil.
func (s *Store) leaveFull(t *table) error {
	if t == nil {
		if err := s.makeTables(); err != nil {
			return err
		}
		var err error
		if t, err = s.tables.tryTake(); t == nil {
			return cmp.Or(err, errors.New("all tables are being read"))
		}
		defer func() {
			if t != s.tables.active {
				s.tables.put(t)
			}
		}()
	}
	t.reset()
	wal, err := s.recoverInto(t, nil, s.catalog.man.liveEpoch+1)
	if err != nil {
		return err
	}
	s.wal.group.Note(s.seq - 1)
	s.activate(t, wal)
	s.startReclaiming()
	s.fullErr.Store(nil)
	return nil
}
