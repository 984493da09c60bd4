package partd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/vfs"
)

// prepareDir makes the directory if it is missing, and sees to it that a lock
// file is made only in an empty one.
func (f *File) prepareDir() error {
	_, err := f.fs.Info(f.path(names.Lock))
	if err == nil && f.pin != nil {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	if l, ok := f.fs.(vfs.LinkTeller); ok {
		if isLink, err := l.IsLink(f.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		} else if isLink {
			return errors.New("it is a symbolic link: give the directory that it leads to")
		}
	}
	info, err := f.fs.Info(f.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f.makeDir()
	case err != nil:
		return err
	case !info.Mode.IsDir():
		return fmt.Errorf("it is a file: %w", syscall.ENOTDIR)
	}
	return f.checkOurs()
}

func (f *File) makeDir() error {
	made := []string{f.dir}
	for dir := filepath.Dir(f.dir); ; dir = filepath.Dir(dir) {
		if _, err := f.fs.Info(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		made = append(made, dir)
	}
	if err := f.fs.MkdirAll(f.dir, 0o777); err != nil {
		return err
	}
	for _, dir := range made {
		if parent := filepath.Dir(dir); !slices.Contains(f.dirty.parents, parent) {
			f.dirty.parents = append(f.dirty.parents, parent)
		}
	}
	return nil
}

// checkOurs refuses a directory that holds files and no lock.
func (f *File) checkOurs() (err error) {
	// Another process may be making the store at this moment: it makes the lock
	// file first, so looking again tells.
	for range 2 {
		if _, err = f.fs.Info(f.path(names.Lock)); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		empty, err := f.dirEmpty()
		if err != nil || empty {
			return err
		}
	}
	return errors.New("the directory is not empty and has no file .lock, so it is no partd store: " +
		"give an empty or a new directory (or, if it is a store whose .lock was removed, make an empty file .lock in it)")
}

func (f *File) dirEmpty() (empty bool, err error) {
	d, err := f.fs.ReadDir(f.dir)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	entries, err := d.Next(1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return len(entries) == 0, err
}
