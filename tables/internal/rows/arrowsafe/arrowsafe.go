// Package arrowsafe reads untrusted Arrow IPC streams in bounded memory and checks untrusted Parquet footers.
package arrowsafe

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
)

// NewReader returns a reader of a stream whose messages have at most size bytes each. It uses at most limit bytes of
// memory, whatever sizes the stream claims. The caller must pass each batch to a [Checker].
func NewReader(r io.Reader, size, limit int64) (*ipc.Reader, error) {
	mem := Bounded(limit)
	return ipc.NewReaderFromMessageReader(newStream(r, min(size, limit), limit, mem), ipc.WithAllocator(mem))
}

// Bounded returns an allocator that panics if its memory would exceed limit bytes. Arrow's reader of streams returns
// the panic as an error.
func Bounded(limit int64) memory.Allocator { return &bounded{limit: limit} }

type bounded struct {
	limit int64
	used  atomic.Int64
}

func (b *bounded) reserve(n int) {
	if b.used.Add(int64(n)) > b.limit {
		b.used.Add(-int64(n))
		panic(fmt.Errorf("allocating %d more bytes exceeds the limit of %d: %w", n, b.limit, partd.ErrTooLarge))
	}
}

func (b *bounded) Allocate(n int) []byte {
	b.reserve(n)
	return memory.DefaultAllocator.Allocate(n)
}

func (b *bounded) Reallocate(n int, old []byte) []byte {
	b.reserve(n - len(old))
	return memory.DefaultAllocator.Reallocate(n, old)
}

func (b *bounded) Free(old []byte) {
	b.used.Add(-int64(len(old)))
	memory.DefaultAllocator.Free(old)
}
