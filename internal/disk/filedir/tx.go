package filedir

import (
	"context"
	"errors"
	"io/fs"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/sessiontab"
	"github.com/go-partd/partd/internal/disk/names"
)

// Apply does nothing unless op is the session's next operation. Otherwise it calls change and marks
// op as applied. Both take effect or neither does, even after a crash or, with Sync, a power loss.
func (d Tx) Apply(session uint64, op sessiontab.Operation, change func() error) (applied bool, err error) {
	isNext, err := d.sessions.beginTag(session, op)
	if err != nil || !isNext {
		return false, err
	}
	defer func() { d.sessions.tag = nil }()
	err = change()
	return err == nil, err
}

// commit ends a Delete, Drop or Set. hasRecord means that the journal has a record to clear.
func (d Tx) commit(hasRecord bool) error {
	if err := d.sessions.commitTag(); err != nil {
		d.journal.needsReplay = true
		return unknownOutcome(err)
	}
	if !hasRecord {
		return nil
	}
	return unknownOutcome(d.journal.clear())
}

// commitNothing records that an operation without changes was applied. It writes an undo record
// first, because a partly written slot would end the session.
func (d Tx) commitNothing(ctx context.Context) error {
	if d.sessions.tag == nil {
		return nil
	}
	return d.Append(ctx, Entries{})
}

// NewSession issues a session.
func (d Tx) NewSession() (uint64, error) { return d.sessions.issue() }

// EndSession forgets a session. Ending an unknown session is not an error.
func (d Tx) EndSession(session uint64) error { return d.sessions.end(session) }

// SessionSecret returns the secret from which session tokens are derived. All processes that use
// the directory have the same secret.
func (d Tx) SessionSecret(session uint64) ([]byte, error) { return d.sessions.secretOf(session) }

// Sync waits until all completed operations of this Dir are durable. It does not cover other
// processes' writes.
func (d Tx) Sync(ctx context.Context) error {
	if d.sync {
		return nil // each operation synced its own changes
	}
	err := d.syncAll(ctx)
	if err == nil || errors.Is(err, canceled.Err(ctx)) {
		return err
	}
	return unknownOutcome(d.refuseWrites(err))
}

func (d Tx) syncAll(ctx context.Context) error {
	if d.cache.dirty.overflowed {
		if err := d.tree.syncFiles(ctx); err != nil {
			return err
		}
		d.cache.markSynced()
	}
	if err := d.cache.syncDirty(ctx); err != nil {
		return err
	}
	// Sync the journal too. Otherwise, a cleared record could reappear after a power loss, and be
	// replayed.
	if d.journal.file != nil {
		if err := d.journal.file.Sync(); err != nil {
			return err
		}
	}
	return d.tree.syncDirs()
}

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
