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
	if err == nil && runtime.GOOS == "linux" && n >= 2<<20 {
		_ = unix.Madvise(b, hugePages) // only an optimization, so ignore errors
	}
	return b, err
}

// AllocateSmallPages is like Allocate, but for memory that is used only a few times. It does not
// ask for huge pages, because getting them is slow in a virtual machine if the host must provide
// them.
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
		_ = unix.Munmap(b) // fails only if the address was not mapped
	}
}
