package remote

import (
	"errors"
	"syscall"
)

// tcpUserTimeout is TCP_USER_TIMEOUT, which package syscall lacks.
const tcpUserTimeout = 18

// limitSilence makes a new TCP connection fail after maxSilence. Otherwise the kernel would retransmit unacknowledged
// data for about 15 minutes, during which it sends no keep-alive probes.
func limitSilence(network, _ string, c syscall.RawConn) (err error) {
	if network == "unix" {
		return nil
	}
	controlErr := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(maxSilence.Milliseconds()))
	})
	return errors.Join(controlErr, err)
}
