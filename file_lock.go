package partd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/internal/names"
)

// Taking the lock, looking whether it is still the directory's, and looking at
// every file costs more than the appends themselves. So a writer keeps the
// lock: for keepLock at most, and no longer than idleLock without being used.
// Within that time nobody else can have changed a file. (Python's drop removes
// files without the lock, but ".lock" with them, which each operation sees.)
const (
	keepLock = 20 * time.Millisecond
	idleLock = 500 * time.Microsecond
	// yieldLock is how long a writer that used up its time stays away, so that
	// a process that waits gets the lock: flock itself knows no order.
	yieldLock = 100 * time.Microsecond
)

type lockState int

const (
	unlocked lockState = iota
	shared
	exclusive
)

// errLockLost says that another process may have the lock as well.
var errLockLost = errors.New("the file .lock was removed or replaced while it was locked, so another process may have written at the same time")

// begin waits for the turn and for the directory's lock, and finishes or undoes
// what was left half-done. After it returned nil, end must be called.
func (f *File) begin(ctx context.Context, write bool) error {
	if f.closed.Load() {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	select {
	case f.turn <- struct{}{}:
	default:
		select {
		case f.turn <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err := ErrClosed
	if !f.closed.Load() {
		var abandoned bool
		if abandoned, err = f.takeLock(ctx, write); abandoned {
			return err // the turn comes back when the lock does
		}
	}
	if err != nil {
		f.passTurn()
	}
	return err
}

// end lets go of the lock, or keeps it for the next operation if it is
// exclusive, and of the turn.
func (f *File) end() {
	keep := f.hooks.keepLock
	if keep == 0 {
		keep = keepLock
	}
	if f.held == exclusive && keep > 0 && f.failed == nil && !f.replay {
		f.heldUsed = time.Now()
		if f.heldTill.IsZero() {
			f.heldTill = f.heldUsed.Add(keep)
			f.keeper.Reset(idleLock)
		}
	} else if err := f.dropLock(); err != nil {
		f.log.Warn("partd: letting go of the lock", "dir", f.dir, "err", err)
	}
	f.passTurn()
}

// passTurn gives the turn to the next operation. The last one after Close closes
// what it opened.
func (f *File) passTurn() {
	if f.closed.Load() {
		if err := f.letGo(); err != nil {
			f.log.Warn("partd: closing files", "dir", f.dir, "err", err)
		}
	}
	<-f.turn
}

// tick lets go of a lock that is kept for too long or for nothing.
func (f *File) tick() {
	select {
	case f.turn <- struct{}{}:
	default: // in use: that operation looks at the time itself
		f.keeper.Reset(idleLock)
		return
	}
	if now := time.Now(); !f.heldTill.IsZero() && f.held == exclusive {
		if now.Sub(f.heldUsed) < idleLock && now.Before(f.heldTill) {
			f.keeper.Reset(idleLock)
		} else if err := f.dropLock(); err != nil {
			f.log.Warn("partd: letting go of the lock", "dir", f.dir, "err", err)
		}
	}
	f.passTurn()
}

// dropLock lets go of the directory's lock.
func (f *File) dropLock() error {
	f.heldTill = time.Time{}
	if f.held == unlocked {
		return nil
	}
	f.held = unlocked
	return f.lock.Unlock()
}

// takeLock takes the directory's lock, unless it is kept from the operation
// before. If it returns abandoned, a goroutine waits for the lock, and gives the
// turn back by itself.
func (f *File) takeLock(ctx context.Context, write bool) (abandoned bool, err error) {
	if f.held == exclusive {
		expired := !time.Now().Before(f.heldTill)
		if !expired && !f.replay {
			if intact, err := f.lockIntact(); err == nil && intact {
				return false, nil
			}
		}
		if err := f.dropLock(); err != nil {
			f.log.Warn("partd: letting go of the lock", "dir", f.dir, "err", err)
		}
		if expired {
			time.Sleep(yieldLock)
		}
	}
	want := shared
	if write {
		want = exclusive
	}
	const tries = 32 // Python's drop may remove the directory again and again
	for range tries {
		if abandoned, err := f.tryLock(ctx, want); err != nil || abandoned {
			return abandoned, err
		}
		if f.held == unlocked {
			continue
		}
		if err := f.enter(); err != nil {
			return false, errors.Join(err, f.dropLock())
		}
		half, err := f.halfDone()
		if err != nil {
			return false, errors.Join(err, f.dropLock())
		}
		if !half {
			return false, nil
		}
		if f.held != exclusive { // only one may clear up
			if err := f.dropLock(); err != nil {
				return false, err
			}
			want = exclusive
			continue
		}
		if err := f.finish(); err != nil {
			return false, errors.Join(err, f.dropLock())
		}
		return false, nil
	}
	return false, fmt.Errorf("%w, %d times in a row: is another process removing the directory?", errLockLost, tries)
}

// tryLock takes the lock, and keeps it only if it is that of the file which the
// directory has now.
func (f *File) tryLock(ctx context.Context, want lockState) (abandoned bool, err error) {
	if err := f.prepareDir(); err != nil {
		return false, err
	}
	ok, err := f.lock.TryLock(want == exclusive)
	if err == nil && !ok {
		if f.hooks.lockWait != nil {
			f.hooks.lockWait()
		}
		abandoned, err = f.waitLock(ctx, want == exclusive)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // the directory went away meanwhile
		return false, nil
	case tooManyOpen(err) && !abandoned && len(f.cache.ring) > 0:
		return false, f.closeKept()
	case err != nil || abandoned:
		return abandoned, err
	}
	f.held = want
	if f.lockInfo, err = f.lock.Info(); err != nil {
		return false, errors.Join(err, f.dropLock())
	}
	intact, err := f.lockIntact()
	if err != nil || !intact {
		return false, errors.Join(err, f.dropLock())
	}
	return false, nil
}

// waitLock waits for the lock, or until the context ends.
func (f *File) waitLock(ctx context.Context, write bool) (abandoned bool, err error) {
	if ctx.Done() == nil {
		return false, f.lock.Lock(write)
	}
	var decided atomic.Bool // who comes first decides whether the caller gets the lock
	got := make(chan error, 1)
	go func() {
		err := f.lock.Lock(write)
		if decided.CompareAndSwap(false, true) {
			got <- err
			return
		}
		if err == nil {
			err = f.lock.Unlock()
		}
		if err != nil {
			f.log.Warn("partd: waiting for the lock", "dir", f.dir, "err", err)
		}
		select {
		case <-f.orphan:
		default: // Close has taken it
		}
		f.passTurn()
	}()
	select {
	case err := <-got:
		return false, err
	case <-ctx.Done():
	}
	f.orphan <- struct{}{} // tells Close not to wait for a lock that another process may keep for ever
	if decided.CompareAndSwap(false, true) {
		return true, context.Cause(ctx)
	}
	select {
	case <-f.orphan:
	default:
	}
	return false, <-got
}

// lockIntact tells whether the locked file is the one that the directory has.
func (f *File) lockIntact() (bool, error) {
	info, err := f.fs.Info(f.path(names.Lock))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.SameFile(f.lockInfo), err
}

// enter is called with the lock newly taken: what was known of the files may no
// longer hold.
func (f *File) enter() error {
	f.cache.epoch++
	if f.pin != nil {
		pinned, err := f.pin.Info()
		if err != nil {
			return err
		}
		if pinned.SameFile(f.lockInfo) {
			return nil
		}
		// The directory was made anew, or .lock alone.
		err = errors.Join(f.pin.Close(), f.closeKept(), f.journal.close())
		f.pin = nil
		if err != nil {
			return err
		}
	}
	pin, err := f.fs.OpenFile(f.path(names.Lock), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	f.pin = pin
	if f.sync && f.failed == nil && len(f.dirty.parents) > 0 { // the directory is new, or this store is
		if err := f.syncDirs(); err != nil {
			f.refuse(err)
			return err
		}
	}
	return nil
}
