package worker

import (
	"syscall"
	"testing"
)

// TestGrowth checks that memory that is mapped but not resident counts as growth, as it does for Limit.
func TestGrowth(t *testing.T) {
	const growth = 64 << 20
	if got := Growth(); got > growth {
		t.Fatalf("Growth() = %d before the process has grown", got)
	}
	mapped, err := syscall.Mmap(-1, 0, 2*growth, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(mapped) // unmapping cannot fail
	if got := Growth(); got < 2*growth {
		t.Errorf("Growth() = %d after mapping %d bytes", got, 2*growth)
	}
}
