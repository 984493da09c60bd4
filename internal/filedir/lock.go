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

var errLockLost = errors.New("the file .lock was removed or replaced while it was locked, so another process may have written at the same time")

// begin waits for the turn and for the directory's lock, and finishes or undoes
// what was left half-done. After it returned nil, end must be called.
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
			return err // the turn comes back when the lock does
		}
	}
	if err != nil {
		d.passTurn()
	}
	return err
}

// end lets go of the lock, or keeps it for the next operation if it is
// exclusive, and of the turn.
func (d *Dir) end() {
	keep := cmp.Or(d.Hooks.KeepLock, keepLock)
	if d.held == exclusive && keep > 0 && d.failed == nil && !d.replay {
		d.heldUsed = time.Now()
		if d.heldTill.IsZero() {
			d.heldTill = d.heldUsed.Add(keep)
			d.keeper.Reset(idleLock)
		}
	} else {
		d.warn("letting go of the lock", d.dropLock())
	}
	d.passTurn()
}

// passTurn gives the turn to the next operation. The last one after Close closes
// what it opened.
func (d *Dir) passTurn() {
	if d.closed.Load() {
		d.warn("closing files", d.closeAll())
	}
	<-d.turn
}

// tick lets go of a lock that is kept for too long or for nothing.
func (d *Dir) tick() {
	select {
	case d.turn <- struct{}{}:
	default: // in use: that operation looks at the time itself
		d.keeper.Reset(idleLock)
		return
	}
	if now := time.Now(); !d.heldTill.IsZero() && d.held == exclusive {
		if now.Sub(d.heldUsed) < idleLock && now.Before(d.heldTill) {
			d.keeper.Reset(idleLock)
		} else {
			d.warn("letting go of the lock", d.dropLock())
		}
	}
	d.passTurn()
}

func (d *Dir) dropLock() error {
	d.heldTill = time.Time{}
	if d.held == unlocked {
		return nil
	}
	d.held = unlocked
	return d.lock.Unlock()
}

// takeLock takes the directory's lock, unless it is kept from the operation
// before. If it returns abandoned, a goroutine waits for the lock, and gives the
// turn back by itself.
func (d *Dir) takeLock(ctx context.Context, write bool) (abandoned bool, err error) {
	if d.held == exclusive {
		expired := !time.Now().Before(d.heldTill)
		if !expired && !d.replay {
			if intact, err := d.lockIntact(); err == nil && intact {
				return false, nil
			}
		}
		d.warn("letting go of the lock", d.dropLock())
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
		if abandoned, err := d.tryLock(ctx, want); err != nil || abandoned {
			return abandoned, err
		}
		if d.held == unlocked {
			continue
		}
		d.cache.epoch++ // what was known of the files may no longer hold
		half, err := false, d.pinLock()
		if err == nil {
			half, err = d.halfDone()
		}
		if err == nil && half && d.held != exclusive { // only one may clear up
			if err := d.dropLock(); err != nil {
				return false, err
			}
			want = exclusive
			continue
		}
		if err == nil && half {
			err = d.finish()
		}
		if err != nil {
			err = errors.Join(err, d.dropLock())
		}
		return false, err
	}
	return false, fmt.Errorf("%w, %d times in a row: is another process removing the directory?", errLockLost, tries)
}

// tryLock takes the lock, and keeps it only if it is that of the file which the
// directory has now.
func (d *Dir) tryLock(ctx context.Context, want lockState) (abandoned bool, err error) {
	if err := d.prepareDir(); err != nil {
		return false, err
	}
	ok, err := d.lock.TryLock(want == exclusive)
	if err == nil && !ok {
		abandoned, err = d.waitLock(ctx, want == exclusive)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // the directory went away meanwhile
		return false, nil
	case tooManyOpen(err) && !abandoned && len(d.cache.ring) > 0:
		return false, d.closeKept()
	case err != nil || abandoned:
		return abandoned, err
	}
	d.held = want
	intact := false
	if d.lockInfo, err = d.lock.Info(); err == nil {
		intact, err = d.lockIntact()
	}
	if !intact {
		err = errors.Join(err, d.dropLock())
	}
	return false, err
}

func (d *Dir) waitLock(ctx context.Context, write bool) (abandoned bool, err error) {
	if ctx.Done() == nil {
		return false, d.lock.Lock(write)
	}
	var decided atomic.Bool // who comes first decides whether the caller gets the lock
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
		default: // Close has taken it
		}
		d.passTurn()
	}()
	select {
	case err := <-got:
		return false, err
	case <-ctx.Done():
	}
	d.orphan <- struct{}{} // tells Close not to wait for a lock that another process may keep for ever
	if decided.CompareAndSwap(false, true) {
		return true, canceled.Err(ctx)
	}
	select {
	case <-d.orphan:
	default:
	}
	return false, <-got
}

// lockIntact reports whether the locked file is the one that the directory has.
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
		// The directory was made anew, or .lock alone.
		err = errors.Join(closeOnce(&d.pin), d.closeKept(), closeOnce(&d.journal.file))
		if err != nil {
			return err
		}
	}
	pin, err := d.fs.OpenFile(d.path(names.Lock), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	d.pin = pin
	if d.sync && d.failed == nil && len(d.dirty.parents) > 0 { // the directory is new, or this store is
		return d.refuse(d.syncDirs())
	}
	return nil
}
