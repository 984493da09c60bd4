//go:build unix

package remote

import (
	"os"
	"syscall"
)

// makePrivate makes a socket accessible only to its owner. It ignores errors, because some systems
// cannot do that before the socket is bound.
func makePrivate(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) }

func tryLock(dir *os.File) error {
	return syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
