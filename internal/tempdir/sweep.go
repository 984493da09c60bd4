package tempdir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-partd/partd/internal/vfs"
)

// Sweep removes what dead processes left in the places, as New does.
func (s *Set) Sweep() error {
	var errs []error
	for _, d := range s.dirs {
		errs = append(errs, sweep(s.fs, d.parent))
	}
	return errors.Join(errs...)
}

// sweep removes what dead processes left in a place.
func sweep(fsys vfs.FS, place string) error {
	entries, err := os.ReadDir(place)
	errs := []error{err}
	for _, e := range entries {
		if e.Type().IsRegular() && isLockName(e.Name()) {
			errs = append(errs, sweepOne(fsys, filepath.Join(place, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// isLockName reports whether a name is one that own gives.
func isLockName(name string) bool {
	middle, ok := strings.CutPrefix(name, prefix)
	middle, hasSuffix := strings.CutSuffix(middle, lockSuffix)
	return ok && hasSuffix && len(middle) == digits && strings.Trim(middle, "0123456789abcdef") == ""
}

// sweepOne removes the directory of a lock file, and the lock file, if nobody
// holds the lock.
func sweepOne(fsys vfs.FS, lockName string) error {
	ours, err := isOurs(fsys, lockName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its owner has just closed it
	}
	if err != nil || !ours {
		return err
	}
	lock, err := vfs.TryLock(fsys, lockName, true)
	if lock == nil || err != nil {
		return err
	}
	if err = removeTree(strings.TrimSuffix(lockName, lockSuffix)); err == nil {
		err = fsys.Remove(lockName)
	}
	return errors.Join(err, lock.Unlock())
}

// isOurs reports whether a lock file holds what own writes, or the beginning of
// that: its writer may have died there.
func isOurs(fsys vfs.FS, name string) (bool, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	var b [len(mark) + 1]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return false, errors.Join(err, f.Close())
	}
	return strings.HasPrefix(mark, string(b[:n])), f.Close()
}

// removeTree removes a directory with all that it holds, and follows no symbolic link.
// One that does not exist is no error.
func removeTree(dir string) error {
	if info, err := os.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is now a symbolic link, and is left alone", dir)
	}
	return os.RemoveAll(dir)
}
