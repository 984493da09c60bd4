//go:build unix

package partdtest

import "syscall"

// reserve returns n zeros that can be read only, without taking memory for them.
func reserve(n int) (b []byte, free func(), err error) {
	b, err = syscall.Mmap(-1, 0, n, syscall.PROT_READ, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	return b, func() { _ = syscall.Munmap(b) }, err
}
