//go:build unix

package remote

import (
	"os"
	"syscall"
)

// makePrivate lets nobody else connect to a socket. Not all systems can before it
// is bound.
func makePrivate(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) }

func tryLock(dir *os.File) error {
	return syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
