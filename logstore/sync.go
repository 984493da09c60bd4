package logstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/go-partd/partd/internal/vfs"
)

// Sync returns once all that was acknowledged before the call survives a loss
// of power. From the first Sync on, segments are synced as they are written.
func (s *Store) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return s.errorf("sync", context.Cause(ctx))
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

// syncFile makes a file's content survive a loss of power.
func (s *Store) syncFile(f vfs.File) error {
	if s.hooks.noSync {
		return nil
	}
	return f.Sync()
}

func (s *Store) syncDir() error {
	if s.hooks.noSync {
		return nil
	}
	return s.fs.SyncDir(s.dir)
}

// syncAlone runs syncs while nobody else does, and poisons the store if they
// fail. The system tells one caller only that something could not be written;
// whoever syncs next must not take for safe what is lost.
func (s *Store) syncAlone(syncs func() error) error {
	s.dataSync.Lock()
	defer s.dataSync.Unlock()
	if err := s.poisoned(); err != nil {
		return err
	}
	if err := syncs(); err != nil {
		return s.poison(err)
	}
	return nil
}

// syncData syncs the data files written to since they were last synced. It is
// called by syncAlone, so that none is found clean that another goroutine is
// still syncing.
func (s *Store) syncData(files *fileSet) error {
	if files == nil {
		return nil
	}
	for _, f := range files.files() {
		if !f.dirty.Swap(false) {
			continue
		}
		if err := s.syncFile(f.f); err != nil {
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
	s.manMu.Lock()
	s.durable.Store(true)
	s.manMu.Unlock()
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
	s.manMu.Lock()
	defer s.manMu.Unlock()
	if err := s.writeManifest(s.man); err != nil {
		return err
	}
	s.allSynced = true
	return nil
}

// syncTo returns once a record, and all before it, survive a loss of power.
// Callers at the same time share one sync. Where it fails, nobody can tell what
// is on the disk.
func (s *Store) syncTo(seq uint64) error {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	for s.synced.Load() < seq {
		if s.syncing {
			s.syncCond.Wait()
			continue
		}
		if err := s.poisoned(); err != nil {
			return unclear{err}
		}
		s.syncing = true
		s.syncMu.Unlock()
		err := s.syncLog()
		s.syncMu.Lock()
		s.syncing = false
		s.syncCond.Broadcast()
		if err != nil {
			return unclear{err}
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
	err := s.syncAlone(func() error {
		if err := s.syncData(files); err != nil {
			return err
		}
		return s.syncFile(w.f)
	})
	if err != nil {
		return err
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
