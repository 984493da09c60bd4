package sorted

import (
	"os"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// sortedBlock is one or more sorted rows, in memory or in a file.
type sortedBlock struct {
	batches []arrow.RecordBatch
	order   []uint32         // row numbers of the only batch in sorted order; nil if the batches are in order
	file    *batches.Spilled // holds the rows instead of batches; nil if they are in memory
	size    int64            // bytes
}

// newBlock sorts one or more batches, none of which is empty. It takes ownership of them.
func newBlock(batches []arrow.RecordBatch, columns []int, size int64) (*sortedBlock, error) {
	b := &sortedBlock{batches: batches, size: size}
	inOrder, err := areInOrder(batches, columns)
	if err != nil || inOrder {
		return b.orError(err)
	}
	joined, err := take.ConcatIn(batches, offHeap{})
	if err != nil {
		return b.orError(err)
	}
	take.Release(batches)
	b.batches = []arrow.RecordBatch{joined}
	k, err := keysOf(joined, columns)
	if err == nil {
		b.order = k.order(int(joined.NumRows()))
		b.size += 4 * joined.NumRows()
	}
	return b.orError(err)
}

// orError returns b if err is nil. Otherwise, it releases b and returns err.
func (b *sortedBlock) orError(err error) (*sortedBlock, error) {
	if err != nil {
		b.release()
		return nil, err
	}
	return b, nil
}

// release frees the memory and the file of b, which can be nil.
func (b *sortedBlock) release() {
	if b == nil {
		return
	}
	take.Release(b.batches)
	b.batches, b.order = nil, nil
	if b.file != nil {
		b.file.Close()
	}
}

// Size returns the size of the rows in bytes.
func (b *sortedBlock) Size() int64 { return b.size }

// spill moves the rows to a temporary file.
func (b *sortedBlock) spill() (err error) {
	b.file, err = batches.Spill(os.TempDir(), b.rows, schema.Convert)
	if err == nil {
		take.Release(b.batches)
		b.batches, b.order = nil, nil
	}
	return err
}

// rows yields copies of the rows in order, or the batches themselves if these are in order.
func (b *sortedBlock) rows(yield func(arrow.RecordBatch, error) bool) {
	if b.file != nil {
		b.file.Rows(yield)
		return
	}
	if b.order == nil {
		batches.From(b.batches...)(yield)
		return
	}
	step := int(batches.SpilledRows(b.batches[0]))
	for start := 0; start < len(b.order); start += step {
		batch, err := takeRows(b.batches[0], b.order[start:min(start+step, len(b.order))])
		if !yield(batch, err) || err != nil {
			return
		}
	}
}

// firstRow returns the position of the first row in order.
func (b *sortedBlock) firstRow() (batch arrow.RecordBatch, row int) {
	if b.order != nil {
		row = int(b.order[0])
	}
	return b.batches[0], row
}

// lastRow returns a copy of the last row in order.
func (b *sortedBlock) lastRow() (arrow.RecordBatch, error) {
	if b.order != nil {
		return takeRows(b.batches[0], b.order[len(b.order)-1:])
	}
	last := b.batches[len(b.batches)-1]
	return takeRows(last, []uint32{uint32(last.NumRows() - 1)})
}

// takeRows returns a copy of some of a batch's rows.
func takeRows(batch arrow.RecordBatch, rows []uint32) (arrow.RecordBatch, error) {
	indices := make([]int, len(rows))
	for i, row := range rows {
		indices[i] = int(row)
	}
	return take.Batch(batch, indices)
}

// areInOrder reports whether the rows of batches, none of which is empty, are in order.
func areInOrder(batches []arrow.RecordBatch, columns []int) (bool, error) {
	var previous keys
	previousRows := 0
	for _, b := range batches {
		k, err := keysOf(b, columns)
		if err != nil {
			return false, err
		}
		if previous != nil && previous.compare(previousRows-1, k, 0) > 0 || !k.inOrder(int(b.NumRows())) {
			return false, nil
		}
		previous, previousRows = k, int(b.NumRows())
	}
	return true, nil
}

// Block joins one or more batches into a batch sorted by columns. Rows with equal keys keep their order.
func Block(batches []arrow.RecordBatch, columns []int) (arrow.RecordBatch, error) {
	joined, err := take.Concat(batches)
	if err != nil {
		return nil, err
	}
	k, err := keysOf(joined, columns)
	if err == nil && k.inOrder(int(joined.NumRows())) {
		return joined, nil
	}
	defer joined.Release()
	if err != nil {
		return nil, err
	}
	return takeRows(joined, k.order(int(joined.NumRows())))
}

// offHeap is an allocator of memory that the garbage collector does not count. Only copies of rows leave a block, so no
// other code uses the memory after its release.
type offHeap struct{}

const minOffHeap = 1 << 20 // smaller buffers are on the heap

var offHeapBytes atomic.Int64 // bytes in use, for tests

func (offHeap) Allocate(n int) []byte {
	if n < minOffHeap {
		return memory.DefaultAllocator.Allocate(n)
	}
	b, err := offheap.Allocate(n)
	if err != nil {
		panic(err) // Arrow's Concatenate recovers it and returns it
	}
	offHeapBytes.Add(int64(n))
	return b
}

func (o offHeap) Reallocate(n int, b []byte) []byte {
	if n <= cap(b) {
		return b[:n]
	}
	larger := o.Allocate(n)
	copy(larger, b)
	o.Free(b)
	return larger
}

func (offHeap) Free(b []byte) {
	if cap(b) >= minOffHeap {
		offHeapBytes.Add(-int64(cap(b)))
		offheap.Release(b[:cap(b)])
	}
}
