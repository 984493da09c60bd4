package remote

import (
	"fmt"
	"net"
	"syscall"
)

// userOf returns a name for the user at the other end of a Unix socket.
func userOf(nc net.Conn) string {
	if c, ok := nc.(*net.UnixConn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			var cred *syscall.Ucred
			controlErr := raw.Control(func(fd uintptr) {
				cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
			})
			if controlErr == nil && err == nil {
				return fmt.Sprintf("user %d", cred.Uid)
			}
		}
	}
	return "local"
}
