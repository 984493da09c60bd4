//go:build unix

package offheap

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

const hugePages = 14 // unix.MADV_HUGEPAGE, which only Linux has

// Allocate returns n zero bytes, aligned to a page, for memory that is used many times. It asks
// for huge pages if the system has them. Pages use memory only after they are first touched. The
// caller must call Release.
func Allocate(n int) ([]byte, error) {
	b, err := AllocateSmallPages(n)
	// Huge pages are only an optimization, so a refusal is not an error.
	if err == nil && runtime.GOOS == "linux" && n >= 2<<20 {
		_ = unix.Madvise(b, hugePages)
	}
	return b, err
}

// AllocateSmallPages is like Allocate, but for memory that is used only a few times. The system
// can often provide pages of the usual size from recently used memory, which is cheap. A huge
// page often consists of memory that was idle for long; in a virtual machine, fetching such
// memory from the host takes longer than clearing it.
func AllocateSmallPages(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("allocating %d bytes of memory: %w", n, err)
	}
	return b, nil
}

// Release frees memory that Allocate or AllocateSmallPages returned. b may be nil.
func Release(b []byte) {
	if b != nil {
		// Munmap fails only if the address was not mapped.
		_ = unix.Munmap(b)
	}
}
