package filedir

import (
	"context"
	"errors"
)

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

// rollback undoes the append in the first n files of the batch, and returns cause. If undoing
// fails, the undo record stays, and the next lock holder undoes the append. If a sync failed, the
// returned error says that the outcome is unknown.
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
