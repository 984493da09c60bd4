package logstore

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
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
	s.waitSealed()
	if err := s.checkWritable(); err != nil && (s.closed || s.fullError() == nil) {
		return false, err
	}
	h := recordHeader{kind: recordBatch, tag: tag, tagged: tag != (partd.Tag{})}
	if h.tagged {
		if isNew, err := s.sessions.check(tag); err != nil || !isNew {
			return false, err
		}
	}
	if fullErr := s.fullErr.Load(); fullErr != nil { // the disk was full at Open or at an earlier Drop
		if err = cmp.Or(canceled.Err(ctx), s.checkPoisoned()); err == nil {
			err = s.dropOnFullDisk(h, nil, *fullErr)
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
		// Sync the current write-ahead file before the next one exists, so that a power loss
		// cannot lose records of this file and keep the next file.
		if err := s.syncLogLocked(); err != nil {
			return false, err
		}
	}
	wal, err := s.nextWAL()
	if isFull(err) && s.checkPoisoned() == nil {
		err = s.dropOnFullDisk(h, t, err)
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
	oldTables := s.tables.inUse()
	s.tables.frozen, s.sealErr = nil, nil
	s.activate(t, wal)
	s.tables.releaseAll(oldTables, t)
	s.forgetFiles()
	return true, nil
}

// forgetFiles removes the data files of a dropped store. Open readers can still read them. mu
// must be held.
func (s *Store) forgetFiles() {
	if s.merging.running {
		s.merging.cancel()
	}
	s.segments.startVersion(nil, nil)
	oldFiles := s.catalog.files
	s.catalog.files, s.segments.list = newFileSet(), nil
	s.sealer.file = nil
	s.blobs.mu.Lock() // reclaimSpace may use blobs.file in the background
	s.blobs.file = nil
	s.blobs.mu.Unlock()
	s.startReclaiming()
	for _, f := range oldFiles.files() {
		s.warn(s.fs.Remove(f.Path), "a file of a dropped store could not be removed; the next Open will retry", "path", f.Path)
	}
	s.warn(oldFiles.release(), "a file of a dropped store could not be closed")
	s.catalog.ensureSpare() // the drop may have used the spare file
}

// tableForDrop returns the table to use after the drop: a table without readers, if possible the
// active one. mu must be held; it is released while waiting. The caller must neither release mu
// nor change the table before the store is dropped.
func (s *Store) tableForDrop(ctx context.Context) (*table, error) {
	for {
		if err := s.checkWritable(); err != nil {
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
		// All tables are in use by Gets, which end soon.
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

// dropManifest writes the manifest of the empty store. If it fails, it erases the header of the
// new write-ahead file: Open would take that header as the end of the previous file.
func (s *Store) dropManifest(wal *walFile, sessions sessionTable) error {
	err := s.catalog.edit(func(m *manifest) { m.clearData(wal.epoch, s.seq, sessions) })
	if u := (maybeApplied{}); err == nil || errors.As(err, &u) {
		return commitError(err)
	}
	if _, undoErr := wal.f.WriteAt(make([]byte, walHeaderLen), 0); undoErr != nil {
		return errors.Join(s.poison(err), undoErr)
	}
	if undoErr := s.wal.syncIfDurable(wal.f); undoErr != nil {
		return errors.Join(s.poison(err), undoErr)
	}
	return err
}
