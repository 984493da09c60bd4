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

// prepare creates the directory if it is missing. It returns an error if the directory is not a
// store. isPinned means that the lock file is open, so the directory was checked before.
func (t *tree) prepare(isPinned bool) error {
	_, err := t.fs.Info(t.path(names.Lock))
	if err == nil && isPinned {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	if err := vfs.RefuseLink(t.fs, t.dir); err != nil {
		return err
	}
	info, err := t.fs.Info(t.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t.makeDir()
	case err != nil:
		return err
	case !info.Mode.IsDir():
		return fmt.Errorf("it is a file: %w", syscall.ENOTDIR)
	}
	return t.checkIsStore()
}

func (t *tree) makeDir() error {
	created := []string{t.dir}
	for dir := filepath.Dir(t.dir); ; dir = filepath.Dir(dir) {
		if _, err := t.fs.Info(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		created = append(created, dir)
	}
	if err := t.fs.MkdirAll(t.dir, 0o777); err != nil {
		return err
	}
	for _, dir := range created {
		if parent := filepath.Dir(dir); !slices.Contains(t.parents, parent) {
			t.parents = append(t.parents, parent)
		}
	}
	return nil
}

// checkIsStore returns an error if the directory has files but no lock file.
func (t *tree) checkIsStore() (err error) {
	// Another process may be creating the store right now. Such a process creates the lock file
	// first, so the second check finds the lock file.
	for range 2 {
		_, err = t.fs.Info(t.path(names.Lock))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		empty, err := t.isEmptyDir()
		if err != nil || empty {
			return err
		}
	}
	return errors.New("the directory is not empty and has no file .lock, so it is not a partd store: " +
		"use an empty or a new directory (or, if it is a store whose .lock was removed, create an empty file .lock in it)")
}

func (t *tree) isEmptyDir() (empty bool, err error) {
	list, err := t.fs.ReadDir(t.dir)
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
