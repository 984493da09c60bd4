package encode

import (
	"math"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestHalfwayNumbers checks that a number exactly between two 16-bit numbers is rounded to the one with an even
// fraction, and its neighbors to the nearest.
func TestHalfwayNumbers(t *testing.T) {
	for h := range Float16(0x7bff) {
		low, high := h.Float32(), (h + 1).Float32()
		middle, even := low+(high-low)/2, h+h&1
		for _, c := range []struct {
			f    float32
			want Float16
		}{{low, h}, {math.Nextafter32(middle, 0), h}, {middle, even}, {math.Nextafter32(middle, high), h + 1}} {
			if got, negative := NewFloat16(c.f), NewFloat16(-c.f); got != c.want || negative != c.want|0x8000 {
				t.Fatalf("NewFloat16(%v) = %#x, and %#x of its negation; want %#x", c.f, got, negative, c.want)
			}
		}
	}
}

// TestNumPyAfterDrop checks that an array that begins again after Drop or Delete has its dtype in the store, and that
// the keys of dtypes are not listed.
func TestNumPyAfterDrop(t *testing.T) {
	d := partd.NewDict()
	n := NewNumPy[int32](d)
	for _, removal := range []func() error{
		func() error { return nil },
		func() error { return n.Drop(t.Context()) },
		func() error { return n.Delete(t.Context(), "k") },
		func() error { _, err := n.Pop(t.Context(), "k"); return err },
	} {
		must.Do(t, removal())
		must.Do(t, n.Append(t.Context(), Entry[[]int32]{"k", []int32{1, 2}}))
		if a, err := NewNumPy[int32](d).Get(t.Context(), "k"); err != nil || len(a[0]) != 2 {
			t.Errorf("another reader gets %v, %v, want two elements", a, err)
		}
		var keys []string
		for info, err := range n.Keys(t.Context()) {
			must.Do(t, err)
			keys = append(keys, info.Key)
		}
		if len(keys) != 1 || keys[0] != "k" {
			t.Errorf("the keys are %q, want only k", keys)
		}
	}
}
