package logstore

import (
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

// Recovery describes the data that Open recovered.
func (s *Store) Recovery() Recovery { return s.wal.recovery }
