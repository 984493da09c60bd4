package filedir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/names"
)

// Taking the lock and checking all files can cost more than a small append. So a writer keeps the
// lock for up to keepLock, unless it is idle for idleLock. Meanwhile, no other process changes
// files, except by Python's drop, which does not take the lock. Operations notice a drop, because
// it removes ".lock".
const (
	keepLock = 20 * time.Millisecond
	idleLock = 500 * time.Microsecond
	// yieldLock is how long a writer pauses after it released a kept lock. Without the pause, other
	// processes might never get the lock, because flock is not fair.
	yieldLock = 100 * time.Microsecond
)

type lockMode int

const (
	unlocked lockMode = iota
	shared
	exclusive
)

var errLockLost = errors.New("the file .lock was removed or replaced while it was locked, so another process may have written at the same time")

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
		if abandoned, err = d.takeLock(ctx, write); abandoned {
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
	keep := cmp.Or(d.Hooks.KeepLock, keepLock)
	if d.mode == exclusive && keep > 0 && d.failure == nil && !d.needsReplay {
		d.lastUsed = time.Now()
		if d.keepUntil.IsZero() {
			d.keepUntil = d.lastUsed.Add(keep)
			d.keeper.Reset(idleLock)
		}
	} else {
		d.warn("releasing the lock", d.releaseLock())
	}
	d.passTurn()
}

// passTurn releases d.turn. If the Dir was closed meanwhile, it first closes all files.
func (d *Dir) passTurn() {
	if d.closed.Load() {
		d.warn("closing files", d.closeAll())
	}
	<-d.turn
}

// releaseIdleLock releases a kept lock that was idle for the duration idleLock, or held for the
// duration keepLock.
func (d *Dir) releaseIdleLock() {
	select {
	case d.turn <- struct{}{}:
	default: // an operation is running, and will check the time itself
		d.keeper.Reset(idleLock)
		return
	}
	if now := time.Now(); !d.keepUntil.IsZero() && d.mode == exclusive {
		if now.Sub(d.lastUsed) < idleLock && now.Before(d.keepUntil) {
			d.keeper.Reset(idleLock)
		} else {
			d.warn("releasing the lock", d.releaseLock())
		}
	}
	d.passTurn()
}

func (d *Dir) releaseLock() error {
	d.keepUntil = time.Time{}
	if d.mode == unlocked {
		return nil
	}
	d.mode = unlocked
	return d.lock.Unlock()
}

// takeLock takes the directory's lock, unless the previous operation kept it. If abandoned is true,
// ctx has ended, and the caller must not release d.turn: the goroutine that still waits for the
// lock will release it.
func (d *Dir) takeLock(ctx context.Context, write bool) (abandoned bool, err error) {
	if d.mode == exclusive {
		expired := !time.Now().Before(d.keepUntil)
		if !expired && !d.needsReplay {
			if intact, err := d.lockIntact(); err == nil && intact {
				return false, nil
			}
		}
		d.warn("releasing the lock", d.releaseLock())
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
		if abandoned, err := d.tryLock(ctx, want); err != nil || abandoned {
			return abandoned, err
		}
		if d.mode == unlocked {
			continue
		}
		d.cache.epoch++ // cached file information may be stale
		pending, err := false, d.pinLock()
		if err == nil {
			pending, err = d.hasRecord()
		}
		if err == nil && pending && d.mode != exclusive { // recover needs the exclusive lock
			if err := d.releaseLock(); err != nil {
				return false, err
			}
			want = exclusive
			continue
		}
		if err == nil && pending {
			err = d.recover()
		}
		if err != nil {
			err = errors.Join(err, d.releaseLock())
		}
		return false, err
	}
	return false, fmt.Errorf("%w, %d times in a row: is another process removing the directory?", errLockLost, tries)
}

// tryLock takes the lock, and sets d.mode. If the lock file was removed or replaced meanwhile,
// tryLock returns without the lock. For abandoned, see waitLock.
func (d *Dir) tryLock(ctx context.Context, want lockMode) (abandoned bool, err error) {
	if err := d.prepareDir(); err != nil {
		return false, err
	}
	ok, err := d.lock.TryLock(want == exclusive)
	if err == nil && !ok {
		abandoned, err = d.waitLock(ctx, want == exclusive)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // the directory was removed
		return false, nil
	case isTooManyOpen(err) && !abandoned && len(d.cache.ring) > 0:
		return false, d.closeCached()
	case err != nil || abandoned:
		return abandoned, err
	}
	d.mode = want
	intact := false
	if d.lockInfo, err = d.lock.Info(); err == nil {
		intact, err = d.lockIntact()
	}
	if !intact {
		err = errors.Join(err, d.releaseLock())
	}
	return false, err
}

// waitLock waits for the lock. If ctx ends first, abandoned is true: a goroutine then still waits
// for the lock, and will release it and d.turn.
func (d *Dir) waitLock(ctx context.Context, write bool) (abandoned bool, err error) {
	if ctx.Done() == nil {
		return false, d.lock.Lock(write)
	}
	// Either the goroutine sets decided, to hand over the lock, or the caller does, to give up.
	var decided atomic.Bool
	result := make(chan error, 1)
	go func() {
		err := d.lock.Lock(write)
		if decided.CompareAndSwap(false, true) {
			result <- err
			return
		}
		if err == nil {
			err = d.lock.Unlock()
		}
		d.warn("waiting for the lock", err)
		select {
		case <-d.orphan:
		default: // Close has received the value
		}
		d.passTurn()
	}()
	select {
	case err := <-result:
		return false, err
	case <-ctx.Done():
	}
	d.orphan <- struct{}{} // Close need not wait, because another process may keep the lock forever
	if decided.CompareAndSwap(false, true) {
		return true, canceled.Err(ctx)
	}
	select {
	case <-d.orphan:
	default:
	}
	return false, <-result
}

// lockIntact reports whether the locked file is still the directory's lock file.
func (d *Dir) lockIntact() (bool, error) {
	info, err := d.fs.Info(d.path(names.Lock))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.SameFile(d.lockInfo), err
}

// pinLock keeps the lock file open, so that its inode is not reused. If the directory or its lock
// file was replaced, pinLock closes the files of the old directory.
func (d *Dir) pinLock() error {
	if d.pin != nil {
		pinned, err := d.pin.Info()
		if err != nil {
			return err
		}
		if pinned.SameFile(d.lockInfo) {
			return nil
		}
		err = errors.Join(closeOnce(&d.pin), d.closeCached(), closeOnce(&d.journal.file))
		if err != nil {
			return err
		}
	}
	pin, err := d.fs.OpenFile(d.path(names.Lock), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	d.pin = pin
	if d.sync && d.failure == nil && len(d.dirty.parents) > 0 { // the directory may be new
		return d.refuseWrites(d.syncDirs())
	}
	return nil
}
