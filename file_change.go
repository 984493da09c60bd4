package partd

import (
	"context"
	"errors"
	"io/fs"

	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/vfs"
)

// Set replaces a key's file by a new one: who reads the old value goes on
// reading it.
func (f *File) Set(ctx context.Context, key string, value []byte) error {
	return f.set(ctx, "set", key, value, false)
}

// SetOnce sets a key that has no file. (Python's iset replaces the value if
// another process set it: its check is its own memory.)
func (f *File) SetOnce(ctx context.Context, key string, value []byte) error {
	return f.set(ctx, "set once", key, value, true)
}

func (f *File) set(ctx context.Context, op, key string, value []byte, once bool) error {
	if len(key) > MaxKeyLen || len(value) > MaxValueLen {
		return tooLarge(op, key, len(value))
	}
	if err := f.begin(ctx, true); err != nil {
		return f.failKey(op, key, err)
	}
	defer f.end()
	if err := f.writable(); err != nil {
		return f.failKey(op, key, err)
	}
	name := f.scheme.Name(key)
	info, err := f.fs.Info(f.path(name))
	switch {
	case err == nil && !info.Mode.IsRegular():
		return f.failKey(op, key, errNotRegular)
	case err == nil && once:
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return f.failKey(op, key, err)
	}
	isNew := err != nil
	if err := f.writeKeyFile(key, name); err != nil {
		return f.failKey(op, key, err)
	}
	if err := f.replaceFile(name, value); err != nil {
		return f.failKey(op, key, f.notSet(name, isNew, err))
	}
	if err := f.forgetKey(key); err != nil {
		return f.failKey(op, key, unknown(err))
	}
	return nil
}

// notSet removes what a Set that failed left: the temporary file, and of a new key
// the file that holds it. It returns why the Set failed.
func (f *File) notSet(name string, isNew bool, cause error) error {
	if errors.Is(cause, errLockLost) || errors.Is(cause, ErrUnknownOutcome) {
		return cause // these may be another process's by now, or be needed
	}
	f.unstage()
	if isNew {
		if err := f.removeLongKey(name); err != nil {
			f.log.Warn("partd: removing what a new key left", "dir", f.dir, "err", err)
		}
	}
	return cause
}

// replaceFile gives a name to a new file with the given bytes, at once. An error
// that does not wrap ErrUnknownOutcome has changed nothing.
func (f *File) replaceFile(name string, value []byte) error {
	if _, err := f.stage(value); err != nil {
		return err
	}
	err := f.moveStaged(name)
	if err == nil || errors.Is(err, errLockLost) || errors.Is(err, ErrUnknownOutcome) {
		return err
	}
	f.unstage()
	return err
}

// stage writes the temporary file, and closes it.
func (f *File) stage(value []byte) (vfs.Info, error) {
	tmp, err := f.newTemp(0o666)
	if err != nil {
		return vfs.Info{}, err
	}
	if len(value) > 0 {
		_, err = tmp.WriteAt(value, 0)
	}
	if err == nil && f.sync {
		if err = tmp.Sync(); err != nil {
			f.refuse(err)
		}
	}
	var info vfs.Info
	if err == nil {
		info, err = tmp.Info()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		f.unstage()
	}
	return info, err
}

// unstage removes the temporary file. That this fails does no harm.
func (f *File) unstage() {
	if err := f.fs.Remove(f.path(names.Temp)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.log.Warn("partd: removing a temporary file", "dir", f.dir, "err", err)
	}
}

// moveStaged gives the temporary file its name. An error that wraps
// ErrUnknownOutcome came after that, any other before.
func (f *File) moveStaged(name string) error {
	intact, err := f.lockIntact()
	if err == nil && !intact {
		return errors.Join(errLockLost, f.dropLock()) // another process may be making a file of that name
	}
	if err == nil {
		err = f.fs.Rename(f.path(names.Temp), f.path(name))
	}
	if err != nil {
		return err
	}
	if !f.sync {
		f.dirty.add(f.path(name))
		return nil
	}
	if err := f.fs.SyncDir(f.dir); err != nil {
		f.refuse(err)
		return unknown(err)
	}
	return nil
}
