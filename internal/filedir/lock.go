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

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/names"
)

// Taking the lock, checking that it is still the directory's, and checking every file
// costs more than the appends themselves. So a writer keeps the lock for up to keepLock,
// unless it is idle for idleLock. Until then no other process can change a file. (Python's
// drop removes files without the lock, but also removes ".lock", which each operation
// notices.)
const (
	keepLock = 20 * time.Millisecond
	idleLock = 500 * time.Microsecond
	// yieldLock is how long a writer pauses after keepLock. flock is not fair, so
	// waiting processes need the pause to get the lock.
	yieldLock = 100 * time.Microsecond
)

type lockMode int

const (
	unlocked lockMode = iota
	shared
	exclusive
)

var errLockLost = errors.New("the file .lock was removed or replaced while it was locked, so another process may have written at the same time")

// begin waits for the turn and for the directory's lock, and finishes or undoes an
// incomplete operation. If it returns nil, the caller must call end.
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
			return err // the waiting goroutine returns the turn
		}
	}
	if err != nil {
		d.passTurn()
	}
	return err
}

// end releases the lock, or keeps an exclusive lock for the next operation, and passes
// the turn on.
func (d *Dir) end() {
	keep := cmp.Or(d.Hooks.KeepLock, keepLock)
	if d.mode == exclusive && keep > 0 && d.failed == nil && !d.replay {
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

// passTurn gives the turn to the next operation. After Close, it closes everything that
// the last operation opened.
func (d *Dir) passTurn() {
	if d.closed.Load() {
		d.warn("closing files", d.closeAll())
	}
	<-d.turn
}

// releaseIdleLock releases a kept lock that is idle or expired.
func (d *Dir) releaseIdleLock() {
	select {
	case d.turn <- struct{}{}:
	default: // in use; that operation checks the time itself
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

// takeLock takes the directory's lock, unless it was kept from the previous operation. If
// it returns abandoned, a goroutine is still waiting for the lock and will return the turn.
func (d *Dir) takeLock(ctx context.Context, write bool) (abandoned bool, err error) {
	if d.mode == exclusive {
		expired := !time.Now().Before(d.keepUntil)
		if !expired && !d.replay {
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
	const tries = 32 // Python's drop may remove the directory repeatedly
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
		if err == nil && pending && d.mode != exclusive { // finishing needs the exclusive lock
			if err := d.releaseLock(); err != nil {
				return false, err
			}
			want = exclusive
			continue
		}
		if err == nil && pending {
			err = d.finish()
		}
		if err != nil {
			err = errors.Join(err, d.releaseLock())
		}
		return false, err
	}
	return false, fmt.Errorf("%w, %d times in a row: is another process removing the directory?", errLockLost, tries)
}

// tryLock takes the lock, and releases it if the locked file is no longer the directory's.
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
	case tooManyOpen(err) && !abandoned && len(d.cache.ring) > 0:
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

func (d *Dir) waitLock(ctx context.Context, write bool) (abandoned bool, err error) {
	if ctx.Done() == nil {
		return false, d.lock.Lock(write)
	}
	var decided atomic.Bool // its first setter decides whether the caller gets the lock
	got := make(chan error, 1)
	go func() {
		err := d.lock.Lock(write)
		if decided.CompareAndSwap(false, true) {
			got <- err
			return
		}
		if err == nil {
			err = d.lock.Unlock()
		}
		d.warn("waiting for the lock", err)
		select {
		case <-d.orphan:
		default: // Close has taken the token
		}
		d.passTurn()
	}()
	select {
	case err := <-got:
		return false, err
	case <-ctx.Done():
	}
	d.orphan <- struct{}{} // tells Close not to wait for a lock that another process may keep forever
	if decided.CompareAndSwap(false, true) {
		return true, canceled.Err(ctx)
	}
	select {
	case <-d.orphan:
	default:
	}
	return false, <-got
}

// lockIntact reports whether the locked file is still the directory's lock file.
func (d *Dir) lockIntact() (bool, error) {
	info, err := d.fs.Info(d.path(names.Lock))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.SameFile(d.lockInfo), err
}

func (d *Dir) pinLock() error {
	if d.pin != nil {
		pinned, err := d.pin.Info()
		if err != nil {
			return err
		}
		if pinned.SameFile(d.lockInfo) {
			return nil
		}
		// The directory, or only .lock, was replaced.
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
	if d.sync && d.failed == nil && len(d.dirty.parents) > 0 { // the directory may be new
		return d.refuse(d.syncDirs())
	}
	return nil
}
