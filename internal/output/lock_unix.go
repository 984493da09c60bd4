//go:build unix

package output

import (
	"os"
	"syscall"
)

// errLocked means that another process holds the lock.
const errLocked = syscall.EWOULDBLOCK

func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// keepLock keeps a file's lock after the file is closed, until unlock is called.
func keepLock(f *os.File) (unlock func(), err error) {
	locked, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(locked)
	return func() { _ = syscall.Close(locked) }, nil // the error does not matter, because nothing is written to it
}
