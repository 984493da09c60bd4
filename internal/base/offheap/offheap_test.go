package offheap

import (
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

func TestAllocate(t *testing.T) {
	for _, allocate := range []func(int) ([]byte, error){Allocate, AllocateSmallPages} {
		for _, n := range []int{1, 4096, 9 << 20} {
			b := must.Get(allocate(n))(t)
			if len(b) != n || b[0] != 0 || b[n-1] != 0 {
				t.Fatalf("got %d bytes, want %d zero bytes", len(b), n)
			}
			b[0], b[n-1] = 1, 2
			Release(b)
		}
		if _, err := allocate(1 << 62); err == nil {
			t.Error("allocating more memory than any machine has returned no error")
		}
	}
	Release(nil)
}
