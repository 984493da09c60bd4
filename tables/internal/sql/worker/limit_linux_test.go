package worker

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestGrowth checks that memory that is mapped but not resident counts as growth, as it does for Limit.
func TestGrowth(t *testing.T) {
	const growth = 64 << 20
	if got := Growth(); got > growth {
		t.Fatalf("Growth() = %d before the process has grown, want at most 64 MiB", got)
	}
	mapped, err := syscall.Mmap(-1, 0, 2*growth, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(mapped) // unmapping cannot fail
	if got := Growth(); got < 2*growth {
		t.Errorf("Growth() = %d, want at least the %d mapped bytes", got, 2*growth)
	}
}

// TestNiceness checks that the function niceness returns the value in /proc/self/stat.
func TestNiceness(t *testing.T) {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, fields, _ := strings.Cut(string(b), ") ")
	var want int
	if _, err := fmt.Sscan(strings.Fields(fields)[16], &want); err != nil {
		t.Fatal(err)
	}
	if got := niceness(); got != want {
		t.Errorf("niceness() = %d, want %d", got, want)
	}
}
