package logstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// Open opens the store in a directory, and creates it if it does not exist. It recovers
// from a crash: see [Store.Recovery]. If the disk is too full for recovery, the store
// supports only reads and Drop; every other change fails with an error that wraps ENOSPC.
func Open(dir string, opts *Options) (*Store, error) {
	return openHooked(dir, opts, hooks{fs: vfs.OS{}})
}

// OpenTemp opens a temporary store in a new subdirectory of dir, or of os.TempDir if dir is
// empty. Close removes the subdirectory. If the process dies first, the next temporary
// store, sort or group in dir removes it.
func OpenTemp(dir string, opts *Options) (*Store, error) {
	path, temp, err := tempdir.NewDir(dir)
	if err != nil {
		return nil, &partd.Error{Op: "open", Path: dir, Err: err}
	}
	s, err := Open(path, opts)
	if err != nil {
		return nil, errors.Join(err, temp.Close())
	}
	s.temp = temp
	return s, nil
}

func openHooked(dir string, o *Options, h hooks) (*Store, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, &partd.Error{Op: "open", Path: dir, Err: err}
	}
	if dir == "" {
		return nil, &partd.Error{Op: "open", Err: errors.New("the directory name is empty")}
	}
	if dir, err = filepath.Abs(dir); err != nil { // the store must not move if the working directory changes
		return nil, &partd.Error{Op: "open", Path: dir, Err: err}
	}
	newEmpty := func() *Store { return newStore(dir, opts, h) }
	s, err := newEmpty().startOrReadOnly(newEmpty)
	if err != nil {
		return nil, s.opError("open", errors.Join(err, s.releaseAll()))
	}
	return s, nil
}

// start opens the store. After an error, releaseAll closes everything that start opened.
func (s *Store) start() error {
	if err := s.makeDir(); err != nil {
		return err
	}
	if err := s.takeLock(); err != nil {
		return err
	}
	m, exists, err := s.catalog.read()
	if err != nil {
		return err
	}
	if !exists {
		if s.opts.ReadOnly {
			return fmt.Errorf("there is no store here: %w", os.ErrNotExist)
		}
		if m, err = s.newManifest(); err != nil {
			return err
		}
	}
	s.catalog.manifest, s.format.ID, s.format.Seed = m, m.id, m.seed
	s.durable.Store(m.durable || s.opts.Sync && !exists)
	s.wal.wasDurable = m.durable
	// A process that died may not have synced all data.
	s.syncer.allSynced = m.durable && exists && m.clean
	s.catalog.files = newFileSet()
	for _, ref := range m.files {
		f, err := s.catalog.open(ref, s.openFlag())
		if err != nil {
			return err
		}
		s.catalog.files.replace(nil, f)
		if err := s.segments.load(f); err != nil {
			return err
		}
	}
	if err := m.ledger.Diff(ledgerOf(s.segments.list)); err != nil {
		return &partd.CorruptError{Path: filepath.Join(s.dir, manifestName), Offset: -1, Err: fmt.Errorf("segments are missing: %w", err)}
	}
	s.journal.seq, s.journal.sessions = m.nextSeq, m.sessions.clone()
	if err := s.initMemory(); err != nil {
		return err
	}
	if s.opts.ReadOnly || s.fullError() != nil {
		return s.journal.recoverReadOnly(exists, s.opts.Memory, s.maxBatch)
	}
	if err := s.journal.recoverWrite(exists); err != nil {
		return err
	}
	if err := s.catalog.removeLeftovers(); err != nil {
		return err
	}
	s.catalog.shortenFiles(s.sealer.file)
	s.catalog.ensureSpare()
	if s.durable.Load() || s.opts.Sync {
		if err := s.syncer.makeDurable(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reclaim.start(&s.segments, s.catalog.files, s.tables.bits)
	s.background.consider()
	return nil
}

// Recovery describes the data that Open recovered.
func (s *Store) Recovery() Recovery { return s.wal.recovery }

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
	// Do not retry after a write with unknown outcome: it is unknown which files are leftovers.
	// Do not retry after a failed sync either: a second sync would not report lost data.
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
	s.fullErr.Store(&err)
	if e := s.start(); e != nil {
		return s, errors.Join(err, e)
	}
	s.log.Warn("logstore: the disk is full: the store supports only reads and Drop", "dir", s.dir, "err", err)
	return s, nil
}
