package logstore

import (
	"context"
	"errors"

	"github.com/go-partd/partd/internal/base/canceled"
)

// Sync waits until all changes that returned before the call are durable, so that they survive
// a power loss. After the first Sync, the store also syncs each new segment.
func (s *Store) Sync(ctx context.Context) error {
	if err := canceled.Err(ctx); err != nil {
		return s.opError("sync", err)
	}
	s.lifeMu.RLock()
	defer s.lifeMu.RUnlock()
	return s.opError("sync", commitError(s.syncAll()))
}

func (s *Store) syncAll() error {
	s.mu.Lock()
	err, seq := s.checkWritable(), s.seq-1
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.makeDurable(); err != nil {
		return err
	}
	return s.syncTo(seq)
}

// makeDurable syncs everything that was written before the first Sync. Later calls do nothing.
func (s *Store) makeDurable() error {
	s.firstSync.Lock()
	defer s.firstSync.Unlock()
	if s.allSynced {
		return nil
	}
	// Files created after durable is set are synced by their creators, which hold catalog.mu.
	s.catalog.mu.Lock()
	s.durable.Store(true)
	s.catalog.mu.Unlock()
	s.mu.Lock()
	s.waitSealed() // a seal that began before durable was set may not sync its segment
	files := s.catalog.files
	var logs []*walFile
	for _, t := range s.tables.inUse() {
		logs = append(logs, t.wal)
	}
	s.mu.Unlock()
	for _, f := range files.files() {
		f.dirty.Store(true)
	}
	err := s.syncExclusive(func() error {
		err := s.syncData(files)
		for _, w := range logs {
			err = errors.Join(err, w.f.Sync())
		}
		return errors.Join(err, s.syncParents())
	})
	if err != nil {
		return err
	}
	if err := s.catalog.edit(func(*manifest) {}); err != nil {
		return err
	}
	s.allSynced = true
	return nil
}

// syncTo waits until all records up to seq are durable. If it fails, it is unknown which
// records are on disk.
func (s *Store) syncTo(seq uint64) error {
	// Only the active write-ahead file can have unsynced records.
	err := s.wal.group.Wait(context.Background(), seq, func(context.Context) (uint64, error) {
		s.mu.Lock()
		w, seq, files := s.tables.active.wal, s.seq-1, s.catalog.files
		s.mu.Unlock()
		return seq, s.wal.sync(w, seq, files)
	})
	if err != nil {
		return maybeApplied{err}
	}
	return nil
}
