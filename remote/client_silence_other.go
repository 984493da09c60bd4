//go:build !linux

package remote

import "syscall"

// limitSilence does nothing, because only Linux can limit how long sent data stays unacknowledged. Elsewhere, keep-alive
// probes detect a dead server, but only while all sent data is acknowledged.
func limitSilence(string, string, syscall.RawConn) error { return nil }
