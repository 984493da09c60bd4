package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"

	"github.com/gofrs/flock"
)

// ErrLocksNobody means that a file system accepts locks, but lets several processes hold the same lock.
var ErrLocksNobody = errors.New("flock excludes no other process on this file system: use another disk, or a mount option with which flock works")

// PrivateLocks is an FS that creates missing lock files with mode 0600. Anyone who can read a lock
// file can hold its lock.
type PrivateLocks struct{ OS }

func (PrivateLocks) NewLock(name string) Lock { return newLock(name, os.O_CREATE|os.O_RDONLY, 0o600) }

// DirLocks is an FS that locks directories.
type DirLocks struct{ OS }

func (DirLocks) NewLock(name string) Lock { return newLock(name, os.O_RDONLY, 0o7777) }

type osLock struct {
	flock      *flock.Flock
	isVerified atomic.Bool // CheckExcludes has found that the lock excludes others
}

// newLock returns a lock for a file, which it opens with flag and creates with perm. After some errors, package flock
// opens the file for writing, unless a bit of perm is missing from the file's permissions.
func newLock(name string, flag int, perm fs.FileMode) *osLock {
	return &osLock{flock: flock.New(name, flock.SetFlag(flag), flock.SetPermissions(perm))}
}

func (l *osLock) TryLock(exclusive bool) (bool, error) {
	try := l.flock.TryRLock
	if exclusive {
		try = l.flock.TryLock
	}
	ok, err := try()
	if ok {
		err = l.check(err)
	}
	return ok && err == nil, err
}

func (l *osLock) Lock(exclusive bool) error {
	lock := l.flock.RLock
	if exclusive {
		lock = l.flock.Lock
	}
	return l.check(lock())
}

func (l *osLock) Unlock() error { return l.flock.Unlock() }

func (l *osLock) Info() (Info, error) {
	fi, err := l.flock.Stat()
	if err != nil {
		return Info{}, err
	}
	return fileInfo(fi), nil
}

// check returns err, the result of locking, if it is not nil. Otherwise, if the lock excludes nobody, check
// releases it and returns an error.
func (l *osLock) check(err error) error {
	if err != nil || l.isVerified.Load() {
		return err
	}
	if err := CheckExcludes(l.flock.Path(), l.flock.Stat); err != nil {
		return errors.Join(err, l.Unlock())
	}
	l.isVerified.Store(true)
	return nil
}

// CheckExcludes returns an error if a file that this process has locked can be locked once more. stat must
// return the info of the locked file. Other errors are ignored, because they do not show that flock is useless.
//
// Closing the second open file keeps the first lock, because a lock of flock(2) belongs to one open
// file. That is also so on NFS, although its server only knows locks of fcntl(2), which any close would
// release: Linux sends an unlock only for an open file that has a lock (see nfs4_proc_unlck and
// nlmclnt_unlock). On NFS, 9P and SMB, Linux looks for conflicts on its own machine before it asks the
// server, so this check says nothing about other machines: see CheckHolder.
func CheckExcludes(name string, stat func() (fs.FileInfo, error)) error {
	second := newLock(name, os.O_RDONLY, 0o7777).flock
	if ok, err := second.TryLock(); !ok || err != nil {
		return nil //nolint:nilerr // see above
	}
	locked, err := stat()
	lockedAgain, err2 := second.Stat()
	err = errors.Join(err, err2, second.Unlock())
	if err == nil && os.SameFile(locked, lockedAgain) { // otherwise another process has replaced the file
		err = fmt.Errorf("lock %s: %w", name, ErrLocksNobody)
	}
	return err
}
