package logstore

import (
	"cmp"
	"errors"
	"path/filepath"
)

// Opening a store for writing needs disk space: for a write-ahead file, and for segments with the
// records of old write-ahead files. If the disk is too full, the store opens only for reading and
// for Drop, which frees space. A spare file reserves space for the manifest that Drop writes.

// resumeWrites makes the dropped store accept changes again. t becomes the active table; if t is
// nil, resumeWrites creates one.
func (s *Store) resumeWrites(t *memtable) error {
	if t == nil {
		if err := s.journal.allocate(s.opts.Compression); err != nil {
			return err
		}
		s.encoder.allocate()
		unused, err := s.tables.tryTake()
		if unused == nil {
			return cmp.Or(err, errors.New("readers use all tables"))
		}
		t = unused
		defer func() {
			if t != s.tables.active {
				s.tables.put(t)
			}
		}()
	}
	t.reset()
	wal, err := s.journal.recoverInto(t, nil, s.catalog.manifest.liveEpoch+1)
	if err != nil {
		return err
	}
	s.wal.group.MarkSynced(s.journal.seq - 1)
	s.journal.activate(t, wal)
	s.reclaim.start(&s.segments, s.catalog.files, s.tables.bits)
	s.noWALErr.Store(nil)
	return nil
}

// startOrReadOnly opens the store. On a full disk it removes leftovers of interrupted
// operations and retries. If that fails, it opens the store only for reading and Drop. newEmpty
// returns an unopened store.
func (s *Store) startOrReadOnly(newEmpty func() *Store) (*Store, error) {
	err := s.start()
	if !isFull(err) || s.opts.ReadOnly {
		return s, err
	}
	if _, e := s.fs.Info(filepath.Join(s.dir, manifestName)); e != nil || s.catalog.files == nil {
		return s, err // nothing to read or drop
	}
	// Do not retry after a write with unknown outcome, because it is unknown which files are leftovers.
	// Do not retry after a failed sync, because a second sync would not report the lost data.
	canRetry := s.checkPoisoned() == nil && s.syncExclusive(s.syncDir) == nil
	if canRetry {
		s.warn(s.catalog.removeLeftovers(), "leftovers of an interrupted operation could not be removed")
	}
	if e := s.releaseAll(); e != nil {
		return newEmpty(), errors.Join(err, e)
	}
	s = newEmpty()
	if canRetry {
		err2 := s.start()
		if !isFull(err2) {
			return s, err2
		}
		if e := s.releaseAll(); e != nil {
			return newEmpty(), errors.Join(err, e)
		}
		s = newEmpty()
	}
	s.noWALErr.Store(&err)
	if e := s.start(); e != nil {
		return s, errors.Join(err, e)
	}
	s.log.Warn("logstore: the disk is full: the store supports only reads and Drop", "dir", s.dir, "err", err)
	return s, nil
}
