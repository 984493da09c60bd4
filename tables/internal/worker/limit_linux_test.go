package worker

import (
	"syscall"
	"testing"
)

// TestHasGrown checks that memory that is mapped but not resident counts as growth, as it does for Limit.
func TestHasGrown(t *testing.T) {
	const growth = 64 << 20
	if HasGrown(growth) {
		t.Fatal("HasGrown returned true before the process has grown")
	}
	mapped, err := syscall.Mmap(-1, 0, 2*growth, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(mapped) // unmapping cannot fail
	if !HasGrown(growth) {
		t.Error("mapped memory does not count as growth")
	}
}
