package filedir

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// Set replaces a key's file with a new one. Readers of the old value can finish reading it.
// If once is set and the key exists, Set does nothing.
func (d Tx) Set(ctx context.Context, key string, value []byte, once bool) error {
	name, err := d.nameOf(key)
	if err != nil {
		return err
	}
	info, err := d.fs.Info(d.path(name))
	if err == nil && info.Mode.IsDir() && d.isDir(d.path(name)) {
		if err := d.freeName(name); err != nil {
			return err
		}
		err = fs.ErrNotExist
	}
	switch {
	case err == nil && !info.Mode.IsRegular():
		return errNotRegular
	case err == nil && once:
		return d.commitNothing(ctx)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	isNew := err != nil
	if err := d.forgetKey(key); err != nil {
		return err
	}
	if err := d.writeKeyFile(key, name); err != nil {
		return err
	}
	if d.tag != nil {
		return d.setTagged(name, value, isNew)
	}
	if err := d.replaceFile(name, value); err != nil {
		return d.cleanUpSet(name, isNew, err)
	}
	return nil
}

// cleanUpSet removes the files that a failed Set created, and returns cause, the error of the Set.
func (d *Dir) cleanUpSet(name string, isNew bool, cause error) error {
	if errors.Is(cause, errLockLost) || errors.Is(cause, storeerror.ErrUnknownOutcome) {
		return cause // the files may belong to another process or may still be needed
	}
	d.unstage()
	if isNew {
		d.warn("removing the file of a new long key", d.removeKeyText(name))
	}
	return cause
}

// replaceFile atomically replaces or creates a file. If it fails, it has changed nothing, unless
// the error wraps ErrUnknownOutcome.
func (d *Dir) replaceFile(name string, value []byte) error {
	if _, err := d.stage(value); err != nil {
		return err
	}
	err := d.moveStaged(name)
	if err == nil || errors.Is(err, errLockLost) || errors.Is(err, storeerror.ErrUnknownOutcome) {
		return err
	}
	d.unstage()
	return err
}

// newTemp creates the temporary file. The lock must be held.
func (d *Dir) newTemp(perm fs.FileMode) (vfs.File, error) {
	if err := d.removeFile(names.Temp); err != nil {
		return nil, err
	}
	return d.openPerm(d.path(names.Temp), os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
}

func (d *Dir) stage(value []byte) (vfs.Info, error) {
	tmp, err := d.newTemp(0o666)
	if err != nil {
		return vfs.Info{}, err
	}
	if len(value) > 0 {
		_, err = tmp.WriteAt(value, 0)
	}
	if err == nil && d.sync {
		err = d.refuseWrites(tmp.Sync())
	}
	var info vfs.Info
	if err == nil {
		info, err = tmp.Info()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		d.unstage()
	}
	return info, err
}

// unstage removes the temporary file. It only logs an error, because a leftover file does no harm.
func (d *Dir) unstage() {
	d.warn("removing a temporary file", d.removeFile(names.Temp))
}

// moveStaged renames the temporary file to name. If it fails, it has not renamed the file,
// unless the error wraps ErrUnknownOutcome.
func (d *Dir) moveStaged(name string) error {
	intact, err := d.lockIntact()
	if err == nil && !intact {
		return errors.Join(errLockLost, d.releaseLock()) // another process may be creating the same file
	}
	if err == nil {
		err = d.makeParents(name)
	}
	if err == nil {
		err = d.fs.Rename(d.path(names.Temp), d.path(name))
	}
	if err != nil {
		return err
	}
	if !d.sync {
		d.dirty.add(d.path(name))
		return nil
	}
	return unknownOutcome(d.refuseWrites(d.syncNames()))
}
