//go:build unix

package partdtest

import "syscall"

// reserve returns n read-only zeros that take no memory.
func reserve(n int) (b []byte, free func(), err error) {
	b, err = syscall.Mmap(-1, 0, n, syscall.PROT_READ, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	return b, func() { _ = syscall.Munmap(b) }, err
}
