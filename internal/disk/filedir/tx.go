package filedir

import (
	"context"
	"errors"
	"io/fs"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/sessiontab"
	"github.com/go-partd/partd/internal/disk/names"
)

// Apply calls change and marks op as applied if op is the session's next operation. Otherwise it does
// nothing. Both take effect or neither does, even after a crash or, with Sync, a power loss.
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
	// Sync the journal too. Otherwise, a cleared record could reappear and be replayed after a power
	// loss.
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

// Append adds each value to its key's file. It changes all files or none, even if the process
// is killed.
func (d Tx) Append(ctx context.Context, entries Entries) error {
	b := &d.batch
	b.groupByKey(entries)
	defer b.release()
	for i, k := range b.touched {
		if err := checkContext(ctx, i); err != nil {
			return err
		}
		if k.file == nil || k.epoch != d.cache.epoch {
			if err := b.refresh(k); err != nil {
				return d.KeyError(k.key, err)
			}
		}
	}
	b.buildRecord(entries)
	b.record = d.journal.seal(b.record, kindAppend, len(b.touched), d.sessions.tag)
	if err := d.journal.write(b.record); err != nil {
		return err
	}
	written := 0 // number of files that may have changed
	for i, k := range b.touched {
		err := checkContext(ctx, i)
		written = i + 1
		if err == nil {
			err = b.writeKey(k, entries)
		}
		if err != nil {
			return d.KeyError(k.key, d.rollback(written, err))
		}
	}
	if d.sync {
		// After a failed sync, the disk's content is unknown, even if a retry succeeds, so
		// later writes are refused.
		if err := d.refuseWrites(b.syncFiles()); err != nil {
			return d.rollback(written, err)
		}
	}
	if intact, err := d.lock.intact(); err != nil {
		return d.rollback(written, err)
	} else if !intact { // another process may hold the lock and change the files
		for _, k := range b.touched {
			k.epoch = 0
		}
		return unknownOutcome(errors.Join(errLockLost, d.lock.release()))
	}
	if err := d.sessions.commitTag(); err != nil {
		return d.rollback(written, err)
	}
	if err := d.journal.clear(); err != nil {
		if d.failure != nil { // a sync failed
			return unknownOutcome(err)
		}
		return d.rollback(written, err)
	}
	for _, k := range b.touched {
		k.size += k.addSize
		k.dirty = k.dirty || !d.sync
	}
	return nil
}

// rollback undoes the append in the first n files of the batch. It returns cause, but if a sync
// failed, the returned error says that the outcome is unknown. If undoing fails, the undo record
// stays, and the next lock holder undoes the append.
func (d Tx) rollback(n int, cause error) error {
	var err error
	for _, k := range d.batch.touched[:n] {
		err = errors.Join(err, d.batch.undoKey(k))
	}
	err = errors.Join(err, d.sessions.undoTag())
	if d.sync && err == nil {
		// The truncations must be on disk before the undo record is cleared.
		err = d.refuseWrites(d.batch.syncCut(n))
	}
	if err == nil {
		err = d.journal.clear()
	}
	if err != nil {
		d.journal.needsReplay = true
		d.warn("a failed append will be undone by the next operation", err)
	}
	if d.failure != nil {
		return unknownOutcome(cause)
	}
	return cause
}
