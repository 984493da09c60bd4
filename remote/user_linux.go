package remote

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// userOf names the user at the other end of a Unix socket.
func userOf(nc net.Conn) string {
	if c, ok := nc.(*net.UnixConn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			var cred *unix.Ucred
			controlErr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
			if controlErr == nil && err == nil {
				return fmt.Sprintf("user %d", cred.Uid)
			}
		}
	}
	return "local"
}
