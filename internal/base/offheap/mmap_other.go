//go:build !unix

package offheap

import "fmt"

// Allocate returns n zero bytes. The caller must call Release.
func Allocate(n int) ([]byte, error) {
	if maxLen := int64(1) << 40; n < 0 || int64(n) > maxLen {
		return nil, fmt.Errorf("allocating %d bytes of memory: more than any machine has", n)
	}
	return make([]byte, n), nil
}

// AllocateSmallPages is the same as Allocate on this system.
func AllocateSmallPages(n int) ([]byte, error) { return Allocate(n) }

// Release does nothing: the garbage collector frees the memory.
func Release([]byte) {}
