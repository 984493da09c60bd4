//go:build !linux

package remote

import "net"

// userOf returns "local" for every user, because only Linux reports the user at the other end.
func userOf(net.Conn) string { return "local" }
