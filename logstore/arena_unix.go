//go:build unix

package logstore

import (
	"golang.org/x/sys/unix"
)

// allocate returns n zero bytes that are not the Go heap's, so that they
// neither double when the collector lags behind nor make it work more. They
// take memory once they are touched, and must be given back with release.
func allocate(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

func release(b []byte) {
	if b != nil {
		// It fails for nothing but an address that was never mapped.
		_ = unix.Munmap(b)
	}
}
