package vfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-partd/partd/internal/canceled"
)

// TryLock takes the lock of a file if it is free. It returns nil where somebody else has
// the lock, or had it and removed the file, whose name is nobody's or another's then.
func TryLock(fsys FS, name string, exclusive bool) (Lock, error) {
	l := fsys.NewLock(name)
	got, err := l.TryLock(exclusive)
	if err != nil || !got {
		return nil, err
	}
	if got, err = IsNamed(fsys, l, name); err != nil || !got {
		return nil, errors.Join(err, l.Unlock())
	}
	return l, nil
}

// WaitLock waits for the lock of a file until ctx ends.
func WaitLock(ctx context.Context, fsys FS, name string, exclusive bool) (Lock, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		if l, err := TryLock(fsys, name, exclusive); l != nil || err != nil {
			return l, err
		}
		if err := canceled.Wait(ctx, time.After(wait)); err != nil {
			return nil, err
		}
	}
}

// IsNamed reports whether a locked file is still the one of its name.
func IsNamed(fsys FS, l Lock, name string) (bool, error) {
	locked, err := l.Info()
	if err != nil {
		return false, err
	}
	named, err := fsys.Info(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && named.SameFile(locked), err
}

// Replace replaces the content of a file, or makes the file, with the mode 0600. The
// file has the old content or the new one, whole, even after a loss of power. temp is a
// directory on the same disk.
func Replace(name, temp, pattern string, content []byte) error {
	f, err := os.CreateTemp(temp, pattern)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return Place(f.Name(), name, errors.Join(err, f.Sync(), f.Close()))
}

// Place gives a written and synced file the name of another, which it replaces, so that
// the name survives a loss of power. Where writing failed with err it removes the file.
func Place(temp, name string, err error) error {
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return OS{}.SyncDir(filepath.Dir(name))
}
