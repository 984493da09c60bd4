//go:build unix

package remote

import "syscall"

// makePrivate makes a socket accessible only to its owner. It ignores errors, because some systems
// cannot change the mode before the socket is bound.
func makePrivate(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) }
