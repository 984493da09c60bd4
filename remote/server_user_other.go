//go:build !linux

package remote

import "net"

// userOf returns "local" for every user: only Linux reports the peer of a Unix socket.
func userOf(net.Conn) string { return "local" }
