//go:build unix

package output

import (
	"os"
	"syscall"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// errLocked means that another process holds the lock.
const errLocked = syscall.EWOULDBLOCK

func lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = vfs.CheckExcludes(f.Name(), f.Stat)
	}
	return err
}

// keepLock keeps a file locked after it is closed, until unlock is called.
func keepLock(f *os.File) (unlock func(), err error) {
	duplicate, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(duplicate)
	return func() { _ = syscall.Close(duplicate) }, nil // ignore the error: nothing was written through duplicate
}
