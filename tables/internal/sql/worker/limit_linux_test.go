package worker

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestGrowth checks that memory that is mapped but not resident counts as growth, as it does for Limit.
func TestGrowth(t *testing.T) {
	const growth = 64 << 20
	if got := Growth(); got > growth {
		t.Fatalf("Growth() = %d before the process has grown, want at most 64 MiB", got)
	}
	mapped := must.Get(syscall.Mmap(-1, 0, 2*growth, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON))(t)
	defer syscall.Munmap(mapped) // unmapping cannot fail
	if got := Growth(); got < 2*growth {
		t.Errorf("Growth() = %d, want at least the %d mapped bytes", got, 2*growth)
	}
}

// TestNiceness checks that the function niceness returns the value in /proc/self/stat.
func TestNiceness(t *testing.T) {
	b := must.Get(os.ReadFile("/proc/self/stat"))(t)
	_, fields, _ := strings.Cut(string(b), ") ")
	var want int
	must.Get(fmt.Sscan(strings.Fields(fields)[16], &want))(t)
	if got := niceness(); got != want {
		t.Errorf("niceness() = %d, want %d", got, want)
	}
}
