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

// TryLock takes the lock of a file if it is free. It returns nil if another holder has the lock,
// or had it and removed the file.
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

// IsNamed reports whether name still refers to the locked file.
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

// Replace atomically replaces the content of a file, or creates the file with mode 0600. The file
// has the old content or the new one, even after a loss of power. temp is a directory on the same
// disk.
func Replace(name, temp, pattern string, content []byte) error {
	f, err := os.CreateTemp(temp, pattern)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return Publish(f.Name(), name, errors.Join(err, f.Sync(), f.Close()))
}

// Publish renames a written and synced file to name, replacing any file there, and syncs the
// directory. If err is not nil or the rename fails, it removes the file.
func Publish(temp, name string, err error) error {
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return OS{}.SyncDir(filepath.Dir(name))
}
