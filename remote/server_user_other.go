//go:build !linux

package remote

import "net"

// userOf names the user at the other end of a Unix socket, where the system tells.
func userOf(net.Conn) string { return "local" }
