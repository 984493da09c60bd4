//go:build unix

package offheap

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Allocate returns n zero bytes, beginning at a page. They take memory once
// they are touched, and must be given back with Release.
func Allocate(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("taking %d bytes of memory: %w", n, err)
	}
	useHugePages(b)
	return b, nil
}

// Release gives back what Allocate returned. nil is nothing.
func Release(b []byte) {
	if b != nil {
		// It fails for nothing but an address that was never mapped.
		_ = unix.Munmap(b)
	}
}
