//go:build !linux

package remote

import "syscall"

// limitSilence does nothing: only Linux limits how long sent data may stay unacknowledged. Elsewhere, keep-alive probes
// detect a dead server only while no data is unacknowledged.
func limitSilence(string, string, syscall.RawConn) error { return nil }
