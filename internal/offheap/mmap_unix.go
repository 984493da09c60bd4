//go:build unix

package offheap

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

const hugePages = 14 // unix.MADV_HUGEPAGE, which only Linux has

// Allocate returns n zero bytes, beginning at a page, for what is touched all over
// again and again: in large pages where there are some. They take memory once
// they are touched, and must be given back with Release.
func Allocate(n int) ([]byte, error) {
	b, err := AllocatePages(n)
	// It is a wish, so a refusal is no error.
	if err == nil && runtime.GOOS == "linux" && n >= 2<<20 {
		_ = unix.Madvise(b, hugePages)
	}
	return b, err
}

// AllocatePages does so for what is touched a few times only, in pages of the usual
// size. The system often has some of these that were in use a moment ago, where a
// large page has to come from memory that nobody has touched for long: to have
// that back from its host takes a virtual machine more time than clearing it.
func AllocatePages(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("taking %d bytes of memory: %w", n, err)
	}
	return b, nil
}

// Release gives back what Allocate or AllocatePages returned. nil is nothing.
func Release(b []byte) {
	if b != nil {
		// It fails for nothing but an address that was never mapped.
		_ = unix.Munmap(b)
	}
}
