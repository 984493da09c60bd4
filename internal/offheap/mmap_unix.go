//go:build unix

package offheap

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

const hugePages = 14 // unix.MADV_HUGEPAGE, which only Linux has

// Allocate returns n zero bytes, beginning at a page. They take memory once
// they are touched, and must be given back with Release.
func Allocate(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("taking %d bytes of memory: %w", n, err)
	}
	// Large pages, since what is sorted or hashed is touched all over. It is a
	// wish, so a refusal is no error.
	if runtime.GOOS == "linux" && n >= 2<<20 {
		_ = unix.Madvise(b, hugePages)
	}
	return b, nil
}

// Release gives back what Allocate returned. nil is nothing.
func Release(b []byte) {
	if b != nil {
		// It fails for nothing but an address that was never mapped.
		_ = unix.Munmap(b)
	}
}
