package filedir

import (
	"context"
	"errors"
	"io/fs"

	"github.com/go-partd/partd/internal/disk/names"
)

// Set replaces a key's file with a new one. Readers of the old value can finish reading it.
// If once is set and the key exists, Set does nothing.
func (d Tx) Set(ctx context.Context, key string, value []byte, once bool) error {
	name, err := d.tree.nameOf(key)
	if err != nil {
		return err
	}
	info, err := d.fs.Info(d.path(name))
	if err == nil && info.Mode.IsDir() && d.isDir(d.path(name)) {
		if err := d.tree.freeName(name); err != nil {
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
	if err := d.cache.forget(key); err != nil {
		return err
	}
	if err := d.staging.writeKeyFile(key, name); err != nil {
		return err
	}
	if d.sessions.tag != nil {
		return d.setTagged(name, value, isNew)
	}
	if err := d.staging.replaceFile(name, value); err != nil {
		return d.staging.cleanUp(name, isNew, err)
	}
	return nil
}

// setTagged sets a key and records that the operation was applied. It writes a record to the
// journal, because the rename and the write to the session's slot are not atomic together.
func (d Tx) setTagged(name string, value []byte, isNew bool) error {
	staged, err := d.staging.write(value)
	if err != nil {
		return d.staging.cleanUp(name, isNew, err)
	}
	rec := appendFile(newRecord(nil), name, staged)
	if err := d.journal.write(d.journal.seal(rec, kindSet, 1, d.sessions.tag)); err != nil {
		return d.staging.cleanUp(name, isNew, err)
	}
	if err := d.staging.moveTo(name); err != nil {
		if errors.Is(err, errLockLost) { // another process may use the directory
			return err
		}
		if _, statErr := d.fs.Info(d.path(names.Temp)); statErr == nil && d.journal.clear() == nil {
			return d.staging.cleanUp(name, isNew, err) // the file was not renamed, and will not be
		}
		d.journal.needsReplay = true
		return unknownOutcome(err)
	}
	return d.commit(true)
}
