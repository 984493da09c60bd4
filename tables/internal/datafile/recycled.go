package datafile

import (
	"math/bits"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// recycler allocates Go memory. It reuses large pieces that were released; Allocate clears them.
type recycler struct {
	memory.Allocator
	pieces [22]sync.Pool // by the logarithm of their size
}

// recycled allocates memory that this package releases, and the memory of batches if Scan.Recycle is set.
var recycled = &recycler{Allocator: memory.DefaultAllocator}

const minRecycled = 1 << 12

// class returns the index of the pool for a size, or 0 if the size is not recycled.
func (r *recycler) class(size int) int {
	if c := bits.Len(uint(max(size, 1) - 1)); size >= minRecycled && c < len(r.pieces) {
		return c
	}
	return 0
}

func (r *recycler) Allocate(size int) []byte {
	b, old := r.used(size)
	if old {
		clear(b)
	}
	return b
}

// used returns memory, and reports whether it was used before. The caller must clear or overwrite
// used memory.
func (r *recycler) used(size int) (b []byte, old bool) {
	c := r.class(size)
	if c == 0 {
		return r.Allocator.Allocate(size), false
	}
	if p, ok := r.pieces[c].Get().(*[]byte); ok {
		return (*p)[:size], true
	}
	return r.Allocator.Allocate(1 << c)[:size], false
}

func (r *recycler) Reallocate(size int, b []byte) []byte {
	if old := len(b); cap(b) >= size {
		b = b[:size]
		clear(b[min(old, size):])
		return b
	}
	grown := r.Allocate(size)
	copy(grown, b)
	r.Free(b)
	return grown
}

func (r *recycler) Free(b []byte) {
	if c := r.class(cap(b)); c > 0 && cap(b) == 1<<c {
		b = b[:cap(b)]
		poison(b)
		r.pieces[c].Put(&b)
	}
}
