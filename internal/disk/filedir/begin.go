package filedir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/names"
)

// begin acquires d.turn and the directory's lock, which is exclusive if write is true. It completes
// or undoes an interrupted operation. If begin returns nil, the caller must call end.
func (d *Dir) begin(ctx context.Context, write bool) error {
	if err := d.Check(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return canceled.Err(ctx)
	}
	select {
	case d.turn <- struct{}{}:
	default:
		if err := canceled.Send(ctx, d.turn, struct{}{}); err != nil {
			return err
		}
	}
	err := d.Check()
	if err == nil {
		var abandoned bool
		abandoned, err = d.takeLock(ctx, write)
		if abandoned {
			return err // the waiting goroutine will release d.turn
		}
	}
	if err != nil {
		d.passTurn()
	}
	return err
}

// end ends the operation that begin started. It may keep an exclusive lock for the next operation.
func (d *Dir) end() {
	if d.failure != nil || d.journal.needsReplay || !d.lock.keep() {
		d.warn("releasing the lock", d.lock.release())
	}
	d.passTurn()
}

// passTurn releases d.turn. If the Dir was closed in the meantime, it first closes all files.
func (d *Dir) passTurn() {
	if d.closed.Load() {
		d.warn("closing files", d.closeAll())
	}
	<-d.turn
}

// releaseIdleLock releases a kept lock, unless it was used recently.
func (d *Dir) releaseIdleLock() {
	select {
	case d.turn <- struct{}{}:
	default: // the operation that is running will check the time itself
		d.lock.keeper.Reset(idleLock)
		return
	}
	d.lock.releaseIdle()
	d.passTurn()
}

// takeLock takes the directory's lock, unless the previous operation kept it. If abandoned is true,
// ctx has ended, and the caller must not release d.turn: the goroutine still waiting for the
// lock will release it.
func (d *Dir) takeLock(ctx context.Context, write bool) (abandoned bool, err error) {
	if d.lock.mode == exclusive {
		expired := !time.Now().Before(d.lock.keepUntil)
		if !expired && !d.journal.needsReplay {
			if intact, err := d.lock.intact(); err == nil && intact {
				return false, nil
			}
		}
		d.warn("releasing the lock", d.lock.release())
		if expired {
			time.Sleep(yieldLock)
		}
	}
	want := shared
	if write {
		want = exclusive
	}
	const tries = 32 // another process may remove the directory repeatedly
	for range tries {
		if abandoned, err := d.lock.take(ctx, want); err != nil || abandoned {
			return abandoned, err
		}
		if d.lock.mode == unlocked {
			continue
		}
		d.cache.epoch++ // cached file information may be stale
		pending, err := false, d.pinLock()
		if err == nil {
			pending, err = d.journal.hasRecord()
		}
		if err == nil && pending && d.lock.mode != exclusive { // recover needs the exclusive lock
			if err := d.lock.release(); err != nil {
				return false, err
			}
			want = exclusive
			continue
		}
		if err == nil && pending {
			err = d.recover()
		}
		if err != nil {
			err = errors.Join(err, d.lock.release())
		}
		return false, err
	}
	return false, fmt.Errorf("%w, %d times in a row: is another process removing the directory?", errLockLost, tries)
}

// recover completes or undoes the operation that the journal describes. If the process dies during
// recover, the next lock holder repeats it. The exclusive lock must be held.
func (d *Dir) recover() error {
	if err := d.cache.closeAll(); err != nil { // the sizes in the cache may be stale
		return err
	}
	record, err := d.journal.read()
	if err != nil {
		return err
	}
	if record != nil {
		r := replay{
			env: &d.env, tree: &d.tree, staging: &d.staging,
			journal: &d.journal, sessions: &d.sessions, record: record,
		}
		if err := r.run(); err != nil {
			return err
		}
	}
	if d.failure != nil { // a sync failed, so keep the record until the store is opened again
		return nil
	}
	return d.journal.clear()
}

// pinLock keeps the lock file open, so that its inode is not reused. If the directory or its lock
// file was replaced, pinLock closes the files of the old directory.
func (d *Dir) pinLock() error {
	if d.lock.pin != nil {
		pinned, err := d.lock.pin.Info()
		if err != nil {
			return err
		}
		if pinned.SameFile(d.lock.info) {
			return nil
		}
		err = errors.Join(closeOnce(&d.lock.pin), d.cache.closeAll(), closeOnce(&d.journal.file))
		if err != nil {
			return err
		}
	}
	pin, err := d.fs.OpenFile(d.path(names.Lock), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	d.lock.pin = pin
	// The names of new directories may not be durable yet.
	if d.sync && d.failure == nil && len(d.tree.parents) > 0 {
		return d.refuseWrites(d.tree.syncDirs())
	}
	return nil
}
