package logstore

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
)

// Drop removes every key, or, if it fails, none. Sessions survive it.
func (s *Store) Drop(ctx context.Context) error {
	_, err := s.drop(ctx, partd.Tag{})
	return s.errorf("drop", err)
}

func (s *Store) drop(ctx context.Context, tag partd.Tag) (applied bool, err error) {
	if err := canceled.Err(ctx); err != nil {
		return false, err
	}
	s.life.Lock()
	defer s.life.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waitSealed()
	if err := s.writable(); err != nil && (s.closed || s.full() == nil) {
		return false, err
	}
	h := recordHeader{kind: recordBatch, tag: tag, tagged: tag != (partd.Tag{})}
	if h.tagged {
		if isNew, err := s.sessions.check(tag); err != nil || !isNew {
			return false, err
		}
	}
	if why := s.fullErr.Load(); why != nil { // when the store was opened or dropped
		if err = cmp.Or(canceled.Err(ctx), s.poisoned()); err == nil {
			err = s.dropFull(h, nil, *why)
		}
		return err == nil, err
	}
	t, err := s.tableForDrop(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		if t != s.tables.active && t != s.tables.frozen {
			t.reset()
			s.tables.put(t)
		}
	}()
	if s.durable.Load() {
		// As in freeze: the file before must be whole where the next one is.
		if err := s.syncLogLocked(); err != nil {
			return false, err
		}
	}
	wal, err := s.nextWAL()
	if isFull(err) && s.poisoned() == nil {
		err = s.dropFull(h, t, err)
		return err == nil, err
	}
	if err != nil {
		return false, err
	}
	sessions := s.sessions.clone()
	sessions.apply(h, s.opts.MaxSessions)
	if err := s.dropManifest(wal, sessions); err != nil {
		return false, err
	}
	s.sessions = sessions
	used := s.tables.inUse()
	s.tables.frozen, s.sealErr = nil, nil
	s.activate(t, wal)
	s.tables.unrefAll(used, t)
	s.forgetFiles()
	return true, nil
}

// forgetFiles removes the data files of a store that was dropped. Readers keep
// them open. mu is held.
func (s *Store) forgetFiles() {
	if s.merging.running {
		s.merging.cancel()
	}
	s.segments.next(nil, nil)
	old := s.catalog.files
	s.catalog.files, s.segments.list = newFileSet(), nil
	s.sealer.file = nil
	s.blobs.mu.Lock() // space may be being given back
	s.blobs.file = nil
	s.blobs.mu.Unlock()
	s.startReclaiming()
	for _, f := range old.files() {
		s.warn(s.fs.Remove(f.Path), "a file of a dropped store could not be removed; the next opening will", "path", f.Path)
	}
	s.warn(old.release(), "closing a file of a dropped store failed")
	s.catalog.keepSpare() // in case that it was used
}

// tableForDrop finds the table that is to be the active one: the one that is,
// unless a reader holds it. It is not to be changed before the store is
// dropped, and mu must be held until then. mu is let go of meanwhile.
func (s *Store) tableForDrop(ctx context.Context) (*table, error) {
	for {
		if err := s.writable(); err != nil {
			return nil, err
		}
		for _, t := range []*table{s.tables.active, s.tables.frozen} {
			if t != nil && t.refs.Load() == 1 {
				return t, nil
			}
		}
		if t, err := s.tables.tryTake(); t != nil || err != nil {
			return t, err
		}
		// All are held by a Get, which ends soon.
		s.mu.Unlock()
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
		s.mu.Lock()
		if ctx.Err() != nil {
			return nil, canceled.Err(ctx)
		}
	}
}

// dropManifest writes the manifest of the empty store. It must not fail with
// the new write-ahead file in place, since that says that the one before ended.
func (s *Store) dropManifest(wal *walFile, sessions sessionTable) error {
	err := s.catalog.edit(func(m *manifest) { m.empty(wal.epoch, s.seq, sessions) })
	if u := (maybeApplied{}); err == nil || errors.As(err, &u) {
		return outcome(err)
	}
	if _, undoErr := wal.f.WriteAt(make([]byte, walHeaderLen), 0); undoErr != nil {
		return errors.Join(s.poison(err), undoErr)
	}
	if undoErr := s.wal.syncIfDurable(wal.f); undoErr != nil {
		return errors.Join(s.poison(err), undoErr)
	}
	return err
}
