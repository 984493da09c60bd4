package filedir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// prepareDir creates the directory if it is missing. It returns an error if the directory is not a
// store.
func (d *Dir) prepareDir() error {
	_, err := d.fs.Info(d.path(names.Lock))
	if err == nil && d.pin != nil {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	if err := vfs.RefuseLink(d.fs, d.dir); err != nil {
		return err
	}
	info, err := d.fs.Info(d.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d.makeDir()
	case err != nil:
		return err
	case !info.Mode.IsDir():
		return fmt.Errorf("it is a file: %w", syscall.ENOTDIR)
	}
	return d.checkIsStore()
}

func (d *Dir) makeDir() error {
	created := []string{d.dir}
	for dir := filepath.Dir(d.dir); ; dir = filepath.Dir(dir) {
		if _, err := d.fs.Info(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		created = append(created, dir)
	}
	if err := d.fs.MkdirAll(d.dir, 0o777); err != nil {
		return err
	}
	for _, dir := range created {
		if parent := filepath.Dir(dir); !slices.Contains(d.dirty.parents, parent) {
			d.dirty.parents = append(d.dirty.parents, parent)
		}
	}
	return nil
}

// checkIsStore returns an error if the directory has files but no lock file.
func (d *Dir) checkIsStore() (err error) {
	// Another process may be creating the store right now. Such a process creates the lock file
	// first, so the second check finds the lock file.
	for range 2 {
		if _, err = d.fs.Info(d.path(names.Lock)); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		empty, err := d.isEmptyDir()
		if err != nil || empty {
			return err
		}
	}
	return errors.New("the directory is not empty and has no file .lock, so it is not a partd store: " +
		"use an empty or a new directory (or, if it is a store whose .lock was removed, create an empty file .lock in it)")
}

func (d *Dir) isEmptyDir() (empty bool, err error) {
	list, err := d.fs.ReadDir(d.dir)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, list.Close()) }()
	entries, err := list.Next(1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return len(entries) == 0, err
}
