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
	names, err := list(fsys, place, func(e fs.DirEntry) bool { return e.Type().IsRegular() && isLockName(e.Name()) })
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, sweepOne(fsys, filepath.Join(place, name)))
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
	if err = removeTree(fsys, strings.TrimSuffix(lockName, lockSuffix)); err == nil {
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

// removeTree removes a directory with all that it holds, and follows no
// symbolic link. One that does not exist is no error.
func removeTree(fsys vfs.FS, dir string) error {
	if l, ok := fsys.(vfs.LinkTeller); ok {
		isLink, err := l.IsLink(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if isLink {
			return fmt.Errorf("%s is a symbolic link now, and is left alone", dir)
		}
	}
	dirs := make(map[string]bool)
	names, err := list(fsys, dir, func(e fs.DirEntry) bool {
		if e.IsDir() {
			dirs[e.Name()] = true
		}
		return true
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		remove := fsys.Remove
		if dirs[name] {
			remove = func(path string) error { return removeTree(fsys, path) }
		}
		if err := remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return fsys.Remove(dir)
}

// list returns the names in a directory that want picks.
func list(fsys vfs.FS, dir string, want func(fs.DirEntry) bool) (names []string, err error) {
	d, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	for {
		entries, err := d.Next(1000)
		for _, e := range entries {
			if want(e) {
				names = append(names, e.Name())
			}
		}
		if err == io.EOF || err == nil && len(entries) == 0 {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
