package filedir

import (
	"errors"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// staging is the temporary file "%tmp", which replaces another file when it is complete.
type staging struct {
	*env
	tree *tree
	lock *dirLock
}

// create creates the temporary file. The lock must be held.
func (s *staging) create(perm fs.FileMode) (vfs.File, error) {
	if err := s.tree.removeFile(names.Temp); err != nil {
		return nil, err
	}
	return s.tree.cache.openPerm(s.path(names.Temp), os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
}

// write writes value to a new temporary file and returns the file's info.
func (s *staging) write(value []byte) (vfs.Info, error) {
	tmp, err := s.create(0o666)
	if err != nil {
		return vfs.Info{}, err
	}
	if len(value) > 0 {
		_, err = tmp.WriteAt(value, 0)
	}
	if err == nil && s.sync {
		err = s.refuseWrites(tmp.Sync())
	}
	var info vfs.Info
	if err == nil {
		info, err = tmp.Info()
	}
	err = errors.Join(err, tmp.Close())
	if err != nil {
		s.discard()
	}
	return info, err
}

// discard removes the temporary file. It only logs an error, because a leftover file does no harm.
func (s *staging) discard() {
	s.warn("removing a temporary file", s.tree.removeFile(names.Temp))
}

// moveTo renames the temporary file to name. If it fails, it has not renamed the file, unless the
// error wraps ErrUnknownOutcome.
func (s *staging) moveTo(name string) error {
	intact, err := s.lock.intact()
	if err == nil && !intact {
		return errors.Join(errLockLost, s.lock.release()) // another process may be creating the same file
	}
	if err == nil {
		err = s.tree.makeParents(name)
	}
	if err == nil {
		err = s.fs.Rename(s.path(names.Temp), s.path(name))
	}
	if err != nil {
		return err
	}
	if !s.sync {
		s.tree.cache.dirty.add(s.path(name))
		return nil
	}
	return unknownOutcome(s.refuseWrites(s.tree.syncNames()))
}

// replaceFile atomically replaces or creates a file. If it fails, it has changed nothing, unless
// the error wraps ErrUnknownOutcome.
func (s *staging) replaceFile(name string, value []byte) error {
	if _, err := s.write(value); err != nil {
		return err
	}
	err := s.moveTo(name)
	if err == nil || errors.Is(err, errLockLost) || errors.Is(err, storeerror.ErrUnknownOutcome) {
		return err
	}
	s.discard()
	return err
}

// writeKeyFile stores a key that is too long for a file name in a separate file. name is the name
// of the file for the key's value. Call writeKeyFile before creating the file for the value.
func (s *staging) writeKeyFile(key, name string) error {
	keyName, ok := names.KeyFile(name)
	if !ok {
		return nil
	}
	if _, err := s.fs.Info(s.path(keyName)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.replaceFile(keyName, []byte(key))
}

// cleanUp removes the files that a failed Set created. It returns cause, the Set's error.
func (s *staging) cleanUp(name string, isNew bool, cause error) error {
	if errors.Is(cause, errLockLost) || errors.Is(cause, storeerror.ErrUnknownOutcome) {
		return cause // the files may belong to another process or may still be needed
	}
	s.discard()
	if isNew {
		s.warn("removing the file of a new long key", s.tree.removeKeyText(name))
	}
	return cause
}
