// Package arrowsafe reads Arrow's IPC streams that anybody may have written, in
// bounded memory.
package arrowsafe

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
)

// NewReader returns a reader of a stream of size bytes or fewer that takes at most
// limit bytes of memory, whatever the stream claims. Its batches have to go
// through [Check].
func NewReader(r io.Reader, size, limit int64) (*ipc.Reader, error) {
	mem := &bounded{limit: limit}
	return ipc.NewReaderFromMessageReader(newStream(r, min(size, limit), limit, mem), ipc.WithAllocator(mem))
}

// Check looks at all that a batch refers to, and refuses one whose values take more
// than limit bytes beyond its own where each stands for itself: it returns them. Arrow's own check panics at some
// of what it should find.
func Check(batch arrow.RecordBatch, limit int64) (beyond int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a batch refers to what it does not hold: %v", p)
		}
	}()
	for i, column := range batch.Columns() {
		data := withNulls(column.Data())
		whole := array.MakeFromData(data)
		err := array.ValidateFull(whole)
		whole.Release()
		data.Release()
		if err != nil {
			return 0, fmt.Errorf("column %q: %w", batch.ColumnName(i), err)
		}
		more, err := flat(column)
		if err != nil {
			return 0, fmt.Errorf("column %q: %w", batch.ColumnName(i), err)
		}
		if beyond += more; beyond > limit {
			return 0, fmt.Errorf("column %q: the values to which its rows refer take %d bytes, over the limit of %d: send smaller batches: %w", batch.ColumnName(i), beyond, limit, partd.ErrTooLarge)
		}
	}
	return beyond, nil
}

// withNulls gives the arrays of nothing but nulls the buffer that Arrow's check
// wants to see, which streams do not have.
func withNulls(d arrow.ArrayData) arrow.ArrayData {
	buffers, children := d.Buffers(), make([]arrow.ArrayData, len(d.Children()))
	if d.DataType().ID() == arrow.NULL {
		buffers = []*memory.Buffer{nil}
	}
	for i, child := range d.Children() {
		children[i] = withNulls(child)
		defer children[i].Release()
	}
	if dictionary, ok := d.Dictionary().(*array.Data); ok && dictionary != nil {
		return array.NewDataWithDictionary(d.DataType(), d.Len(), buffers, d.NullN(), d.Offset(), dictionary)
	}
	return array.NewData(d.DataType(), d.Len(), buffers, children, d.NullN(), d.Offset())
}

// bounded is an allocator that panics over a limit: Arrow's reader returns that
// as an error.
type bounded struct {
	limit int64
	used  atomic.Int64
}

func (b *bounded) take(n int) {
	if b.used.Add(int64(n)) > b.limit {
		b.used.Add(-int64(n))
		panic(fmt.Errorf("%d bytes more, over the limit of %d: %w", n, b.limit, partd.ErrTooLarge))
	}
}

func (b *bounded) Allocate(n int) []byte {
	b.take(n)
	return memory.DefaultAllocator.Allocate(n)
}

func (b *bounded) Reallocate(n int, was []byte) []byte {
	b.take(n - len(was))
	return memory.DefaultAllocator.Reallocate(n, was)
}

func (b *bounded) Free(was []byte) {
	b.used.Add(-int64(len(was)))
	memory.DefaultAllocator.Free(was)
}
