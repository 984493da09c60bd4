package logstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// Sync returns once all that was acknowledged before the call survives a loss
// of power. From the first Sync on, segments are synced as they are written.
func (s *Store) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return s.errorf("sync", context.Cause(ctx))
	}
	s.life.RLock()
	defer s.life.RUnlock()
	return s.errorf("sync", s.syncAll())
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

// makeDurable syncs, the first time, all that was written while nobody had
// asked for it.
func (s *Store) makeDurable() error {
	s.firstSync.Lock()
	defer s.firstSync.Unlock()
	if s.allSynced {
		return nil
	}
	s.durable.Store(true)
	s.mu.Lock()
	for s.sealing { // perhaps it began when nothing was to be synced
		done := s.sealed
		s.mu.Unlock()
		<-done
		s.mu.Lock()
	}
	files := s.files
	logs := []*walFile{s.active.wal}
	if s.frozen != nil {
		logs = append(logs, s.frozen.wal)
	}
	s.mu.Unlock()
	for _, f := range files.files() {
		f.dirty.Store(true)
	}
	err := s.syncData(files)
	for _, w := range logs {
		err = errors.Join(err, s.syncFile(w.f))
	}
	if err == nil {
		err = s.syncParents()
	}
	if err == nil {
		s.manMu.Lock()
		err = s.writeManifest(s.man)
		s.manMu.Unlock()
	}
	if err != nil {
		return s.poison(err)
	}
	s.allSynced = true
	return nil
}

// syncTo returns once a record, and all before it, survive a loss of power.
// Callers at the same time share one sync.
func (s *Store) syncTo(seq uint64) error {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	for s.synced.Load() < seq {
		if s.syncing {
			s.syncCond.Wait()
			continue
		}
		if err := s.poisoned(); err != nil {
			return s.poison(err)
		}
		s.syncing = true
		s.syncMu.Unlock()
		err := s.syncLog()
		s.syncMu.Lock()
		s.syncing = false
		s.syncCond.Broadcast()
		if err != nil {
			return err
		}
	}
	return nil
}

// syncLog syncs the active write-ahead file, and what its records refer to.
// Those before it were synced when they ceased to be active.
func (s *Store) syncLog() error {
	s.mu.Lock()
	w, seq, files := s.active.wal, s.seq-1, s.files
	s.mu.Unlock()
	return s.syncFiles(w, seq, files)
}

func (s *Store) syncLogLocked() error { return s.syncFiles(s.active.wal, s.seq-1, s.files) }

func (s *Store) syncFiles(w *walFile, seq uint64, files *fileSet) error {
	err := s.syncData(files)
	if err == nil {
		err = s.syncFile(w.f)
	}
	if err != nil {
		// What a failed sync leaves on the disk, nobody can tell.
		return s.poison(err)
	}
	for old := s.synced.Load(); old < seq && !s.synced.CompareAndSwap(old, seq); old = s.synced.Load() {
	}
	return nil
}

// syncParents makes the names of the store's directory, and of those above it,
// survive a loss of power. Those that may not be read were not made by us.
func (s *Store) syncParents() error {
	if s.hooks.noSync {
		return nil
	}
	for dir := filepath.Clean(s.dir); ; {
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil
		}
		if err := s.fs.SyncDir(parent); err != nil {
			if errors.Is(err, os.ErrPermission) {
				return nil
			}
			return err
		}
		dir = parent
	}
}
