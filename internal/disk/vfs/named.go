package vfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
)

// TryLock acquires a file's lock if it is free. It returns nil if another process holds the lock or
// has removed the file in the meantime.
func TryLock(fsys FS, name string, exclusive bool) (Lock, error) {
	l := fsys.NewLock(name)
	ok, err := l.TryLock(exclusive)
	if err != nil || !ok {
		return nil, err
	}
	ok, err = IsNamed(fsys, l, name)
	if err != nil || !ok {
		return nil, errors.Join(err, l.Unlock())
	}
	return l, nil
}

// WaitLock waits until it acquires a file's lock, or until ctx ends.
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

// IsNamed reports whether name still refers to the file that l has locked.
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

// Replace atomically replaces the content of a file, or creates the file with mode 0600. After a
// power failure, the file has either the old or the new content. tempDir must be on the same disk;
// pattern names the temporary file, as in [os.CreateTemp].
func Replace(name, tempDir, pattern string, content []byte) error {
	f, err := os.CreateTemp(tempDir, pattern)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return Publish(f.Name(), name, errors.Join(err, f.Sync(), f.Close()))
}

// Publish renames the file temp to name and syncs the directory. err is the result of writing,
// syncing and closing temp. If err is not nil or renaming fails, Publish removes temp and returns
// the error.
func Publish(temp, name string, err error) error {
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return OS{}.SyncDir(filepath.Dir(name))
}
