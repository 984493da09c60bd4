package logstore

import (
	"context"
	"errors"
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

// OpenTemp opens a temporary store in a new subdirectory of dir, or of os.TempDir if dir is empty.
// Close removes the subdirectory. If the process dies first, the next temporary store, or the next
// job with temporary files in dir, removes it.
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
	dir, err = filepath.Abs(dir) // the store must not move if the working directory changes
	if err != nil {
		return nil, &partd.Error{Op: "open", Path: dir, Err: err}
	}
	newEmpty := func() *Store { return newStore(dir, opts, h) }
	s, err := newEmpty().startOrReadOnly(newEmpty)
	if err != nil {
		return nil, s.opError("open", errors.Join(err, s.releaseAll()))
	}
	return s, nil
}

// Recovery describes the data that Open recovered.
func (s *Store) Recovery() Recovery { return s.wal.recovery }

// Close writes all data to segments and closes the store. Open readers remain usable. If
// writing fails, Close returns the error, and the next Open recovers the data from the
// write-ahead files. A second Close does nothing.
func (s *Store) Close() error {
	if s.dir == "" {
		return nil
	}
	// Flush before background.stop, because the new segment may start a merge. If the flush fails,
	// finish flushes again and returns the error.
	if !s.opts.ReadOnly && s.temp == nil {
		_ = s.Flush(context.Background())
	}
	s.background.stop()
	s.lifeMu.Lock()
	defer s.lifeMu.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	var err error
	if !s.opts.ReadOnly && s.noWALError() == nil && s.temp == nil {
		err = s.journal.finish()
	}
	s.closed = true
	s.mu.Unlock()
	err = errors.Join(err, s.releaseAll())
	if s.temp != nil {
		err = errors.Join(err, s.temp.Close())
	}
	return s.opError("close", err)
}
