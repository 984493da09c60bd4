package filedir

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// Taking the lock and checking all files can cost more than a small append. So a writer keeps the
// lock for up to keepLock, unless it is idle for idleLock. During that time, no other process
// changes files, except through Python's drop, which does not take the lock. Operations notice a drop,
// because it removes ".lock".
const (
	keepLock = 20 * time.Millisecond
	idleLock = 500 * time.Microsecond
	// yieldLock is how long a writer pauses after releasing a kept lock. Without the pause, other
	// processes might never get the lock, because flock is not fair.
	yieldLock = 100 * time.Microsecond
)

type lockMode int

const (
	unlocked lockMode = iota
	shared
	exclusive
)

// dirLock is the directory's lock, which excludes other processes. A writer can keep it between
// operations: see keepLock. Dir.turn guards its fields.
type dirLock struct {
	*env
	tree      *tree
	passTurn  func() // releases Dir.turn
	file      vfs.Lock
	info      vfs.Info
	pin       vfs.File // the lock file, kept open so that its inode is not reused
	mode      lockMode
	keepUntil time.Time // when to release a kept lock
	lastUsed  time.Time
	keeper    *time.Timer   // releases a kept lock
	orphan    chan struct{} // not empty while a goroutine whose caller has given up holds Dir.turn (see wait)
}

var errLockLost = errors.New("the file .lock was removed or replaced while it was locked, so another process may have written at the same time")

// keep keeps an exclusive lock for the next operation. It returns false if the lock must be released.
func (l *dirLock) keep() bool {
	keepFor := cmp.Or(l.Hooks.KeepLock, keepLock)
	if l.mode != exclusive || keepFor <= 0 {
		return false
	}
	l.lastUsed = time.Now()
	if l.keepUntil.IsZero() {
		l.keepUntil = l.lastUsed.Add(keepFor)
		l.keeper.Reset(idleLock)
	}
	return true
}

// releaseIdle releases a kept lock that has been idle for idleLock or held for keepLock.
func (l *dirLock) releaseIdle() {
	if now := time.Now(); !l.keepUntil.IsZero() && l.mode == exclusive {
		if now.Sub(l.lastUsed) < idleLock && now.Before(l.keepUntil) {
			l.keeper.Reset(idleLock)
		} else {
			l.warn("releasing the lock", l.release())
		}
	}
}

func (l *dirLock) release() error {
	l.keepUntil = time.Time{}
	if l.mode == unlocked {
		return nil
	}
	l.mode = unlocked
	return l.file.Unlock()
}

// take takes the lock and sets l.mode. If the lock file was removed or replaced in the meantime,
// take returns without the lock. For abandoned, see wait.
func (l *dirLock) take(ctx context.Context, want lockMode) (abandoned bool, err error) {
	if err := l.tree.prepare(l.pin != nil); err != nil {
		return false, err
	}
	ok, err := l.file.TryLock(want == exclusive)
	if err == nil && !ok {
		abandoned, err = l.wait(ctx, want == exclusive)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // the directory was removed
		return false, nil
	case isTooManyOpen(err) && !abandoned && len(l.tree.cache.ring) > 0:
		return false, l.tree.cache.closeAll()
	case err != nil || abandoned:
		return abandoned, err
	}
	l.mode = want
	intact := false
	l.info, err = l.file.Info()
	if err == nil {
		intact, err = l.intact()
	}
	if !intact {
		err = errors.Join(err, l.release())
	}
	return false, err
}

// wait waits for the lock. If ctx ends first, abandoned is true: a goroutine then keeps waiting and
// will release both the lock and Dir.turn.
func (l *dirLock) wait(ctx context.Context, write bool) (abandoned bool, err error) {
	if ctx.Done() == nil {
		return false, l.file.Lock(write)
	}
	// Either the goroutine sets decided, to hand over the lock, or the caller does, to give up.
	var decided atomic.Bool
	result := make(chan error, 1)
	go func() {
		err := l.file.Lock(write)
		if decided.CompareAndSwap(false, true) {
			result <- err
			return
		}
		if err == nil {
			err = l.file.Unlock()
		}
		l.warn("waiting for the lock", err)
		select {
		case <-l.orphan:
		default: // Close has received the value
		}
		l.passTurn()
	}()
	select {
	case err := <-result:
		return false, err
	case <-ctx.Done():
	}
	l.orphan <- struct{}{} // Close need not wait, because another process may keep the lock forever
	if decided.CompareAndSwap(false, true) {
		return true, canceled.Err(ctx)
	}
	select {
	case <-l.orphan:
	default:
	}
	return false, <-result
}

// intact reports whether the locked file is still the directory's lock file.
func (l *dirLock) intact() (bool, error) {
	info, err := l.fs.Info(l.path(names.Lock))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.SameFile(l.info), err
}
