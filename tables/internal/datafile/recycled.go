package datafile

import (
	"math/bits"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// recycler allocates Go memory and reuses large buffers that were released.
type recycler struct {
	memory.Allocator
	buffers [22]sync.Pool // indexed by the base-2 logarithm of the buffer size
}

// recycled allocates memory that this package itself releases, and memory of batches if Scan.Recycle is set.
var recycled = &recycler{Allocator: memory.DefaultAllocator}

const minRecycled = 1 << 12

// class returns the index of the pool for a buffer size, or 0 if buffers of that size are not recycled.
func (r *recycler) class(size int) int {
	if c := bits.Len(uint(max(size, 1) - 1)); size >= minRecycled && c < len(r.buffers) {
		return c
	}
	return 0
}

func (r *recycler) Allocate(size int) []byte {
	b, wasUsed := r.newOrUsed(size)
	if wasUsed {
		clear(b)
	}
	return b
}

// newOrUsed returns a buffer, and reports whether it was used before. The caller must clear or overwrite a used buffer.
func (r *recycler) newOrUsed(size int) (b []byte, wasUsed bool) {
	c := r.class(size)
	if c == 0 {
		return r.Allocator.Allocate(size), false
	}
	if p, ok := r.buffers[c].Get().(*[]byte); ok {
		return (*p)[:size], true
	}
	return r.Allocator.Allocate(1 << c)[:size], false
}

func (r *recycler) Reallocate(size int, b []byte) []byte {
	if oldLen := len(b); cap(b) >= size {
		b = b[:size]
		clear(b[min(oldLen, size):])
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
		for i := 0; poisonsFreed && i < len(b); i++ {
			b[i] = 0xa5
		}
		r.buffers[c].Put(&b)
	}
}
