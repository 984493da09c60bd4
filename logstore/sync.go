package logstore

import (
	"context"
	"errors"

	"github.com/go-partd/partd/internal/canceled"
)

// Sync returns once everything acknowledged before the call survives a power
// loss. From the first Sync on, the store syncs segments as it writes them.
func (s *Store) Sync(ctx context.Context) error {
	if err := canceled.Err(ctx); err != nil {
		return s.errorf("sync", err)
	}
	s.life.RLock()
	defer s.life.RUnlock()
	return s.errorf("sync", outcome(s.syncAll()))
}

func (s *Store) syncAll() error {
	s.mu.Lock()
	err, seq := s.writable(), s.seq-1
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.makeDurable(); err != nil {
		return err
	}
	return s.syncTo(seq)
}

// syncData syncs the data files written to since they were last synced. It is
// called by syncAlone, so that none is found clean that another goroutine is
// still syncing.
func (d *directory) syncData(files *fileSet) error {
	for _, f := range files.files() {
		if !f.dirty.Swap(false) {
			continue
		}
		if err := d.syncFile(f.f); err != nil {
			return err
		}
	}
	return nil
}

// makeDurable syncs, the first time, all that was written while nobody had
// asked for it.
func (s *Store) makeDurable() error {
	s.firstSync.Lock()
	defer s.firstSync.Unlock()
	if s.allSynced {
		return nil
	}
	// A file that is being made is among the store's before, or synced as it is
	// made.
	s.catalog.mu.Lock()
	s.durable.Store(true)
	s.catalog.mu.Unlock()
	s.mu.Lock()
	s.waitSealed() // perhaps it began when nothing was to be synced
	files := s.catalog.files
	var logs []*walFile
	for _, t := range s.tables.inUse() {
		logs = append(logs, t.wal)
	}
	s.mu.Unlock()
	for _, f := range files.files() {
		f.dirty.Store(true)
	}
	err := s.syncAlone(func() error {
		err := s.syncData(files)
		for _, w := range logs {
			err = errors.Join(err, s.syncFile(w.f))
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

// syncTo returns once a record, and all before it, survive a loss of power. Where
// the sync fails, nobody can tell what is on the disk.
func (s *Store) syncTo(seq uint64) error {
	// Write-ahead files before the active one were synced when they ceased to be that.
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

func (s *Store) syncLogLocked() error {
	return s.wal.sync(s.tables.active.wal, s.seq-1, s.catalog.files)
}

// sync syncs a file up to a record, and what its records refer to.
func (l *wal) sync(w *walFile, seq uint64, files *fileSet) error {
	err := l.syncAlone(func() error {
		if err := l.syncData(files); err != nil {
			return err
		}
		return l.syncFile(w.f)
	})
	if err != nil {
		return err
	}
	l.group.Note(seq)
	return nil
}
