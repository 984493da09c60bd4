//go:build unix

package output

import (
	"os"
	"syscall"
)

// errLocked says that another process holds the lock.
const errLocked = syscall.EWOULDBLOCK

func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// keepLock keeps a file's lock beyond its closing, until unlock is called.
func keepLock(f *os.File) (unlock func(), err error) {
	locked, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(locked)
	return func() { _ = syscall.Close(locked) }, nil // nothing is written through it
}
