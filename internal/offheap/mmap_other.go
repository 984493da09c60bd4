//go:build !unix

package offheap

import "fmt"

// Allocate returns n zero bytes, which must be given back with Release.
func Allocate(n int) ([]byte, error) {
	if maxLen := int64(1) << 40; n < 0 || int64(n) > maxLen {
		return nil, fmt.Errorf("taking %d bytes of memory: more than any machine has", n)
	}
	return make([]byte, n), nil
}

// AllocatePages does so: there is one kind of memory.
func AllocatePages(n int) ([]byte, error) { return Allocate(n) }

// Release gives back what Allocate returned. nil is nothing.
func Release([]byte) {}
