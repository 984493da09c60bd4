package logstore

import (
	"context"
	"errors"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
)

// Drop removes every key; if it fails, it removes none. Drop keeps sessions.
func (s *Store) Drop(ctx context.Context) error {
	_, err := s.drop(ctx, partd.Tag{})
	return s.opError("drop", err)
}

func (s *Store) drop(ctx context.Context, tag partd.Tag) (applied bool, err error) {
	if err := canceled.Err(ctx); err != nil {
		return false, err
	}
	s.lifeMu.Lock()
	defer s.lifeMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal.waitSealed()
	if err := s.checkWritable(); err != nil && !errors.Is(err, errNoRoom) && !errors.Is(err, errNoWALAfterDrop) {
		return false, err
	}
	h := recordHeader{kind: recordBatch, tag: tag, tagged: tag != (partd.Tag{})}
	if isNew, err := s.journal.sessions.check(tag); err != nil || !isNew {
		return false, err
	}
	var t *memtable // table that becomes active after the drop; nil if the store has no write-ahead file
	if s.noWALError() != nil {
		err = canceled.Err(ctx)
	} else {
		t, err = s.journal.tableForDrop(ctx)
		if err == nil {
			defer func() {
				if t != s.tables.active && t != s.tables.frozen {
					t.reset()
					s.tables.put(t)
				}
			}()
		}
	}
	if err != nil {
		return false, err
	}
	sessions := s.journal.sessions.clone()
	sessions.apply(h, s.opts.MaxSessions)
	if s.tables.active != nil {
		s.wal.lastEpoch = max(s.wal.lastEpoch, s.tables.active.wal.epoch)
	}
	// Do not create a write-ahead file before the store is empty, because the disk may be full.
	err = s.catalog.edit(func(m *manifest) {
		m.clearData(max(m.liveEpoch, s.wal.lastEpoch)+1, s.journal.seq, sessions)
		m.clean = true
	})
	if err != nil {
		return false, commitError(err)
	}
	s.journal.sessions = sessions
	s.tables.walErr = nil
	oldTables := s.tables.inUse()
	s.tables.active, s.tables.frozen, s.tables.walTables = nil, nil, nil
	s.journal.sealErr = nil
	s.tables.releaseAll(oldTables, t)
	s.warn(s.wal.remove(), "a write-ahead file of a dropped store could not be removed; it will be reused")
	s.removeFiles()
	resumeErr := s.resumeWrites(t)
	s.mustResume = resumeErr != nil
	if s.mustResume {
		// The store has been dropped, so the call succeeds.
		if s.checkPoisoned() == nil {
			s.noWALErr.CompareAndSwap(nil, &resumeErr)
		}
		s.log.Warn("logstore: the store was dropped, but cannot accept changes", "dir", s.dir, "err", resumeErr)
	}
	return true, nil
}

// removeFiles removes the data files of a dropped store. Open readers can still read them. mu
// must be held.
func (s *Store) removeFiles() {
	if s.background.running {
		s.background.cancel()
	}
	s.segments.startVersion(nil, nil)
	oldFiles := s.catalog.files
	s.catalog.files, s.segments.list = newFileSet(), nil
	s.sealer.file, s.sealer.probe = nil, cacheProbe{}
	s.blobs.mu.Lock() // reclaimer.run may use blobs.file in the background
	s.blobs.file = nil
	s.blobs.mu.Unlock()
	s.reclaim.start(&s.segments, s.catalog.files, s.tables.bits)
	for _, f := range oldFiles.files() {
		s.warn(s.fs.Remove(f.Path), `a file of a dropped store could not be removed; the next Open will retry`, "path", f.Path)
	}
	s.warn(oldFiles.release(), "a file of a dropped store could not be closed")
	s.catalog.ensureSpare() // the drop may have used the spare file
}
