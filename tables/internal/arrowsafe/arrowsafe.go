// Package arrowsafe reads untrusted Arrow IPC streams in bounded memory, and checks untrusted Parquet footers.
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

// NewReader returns a reader of a stream whose messages have at most size bytes each. It uses at most limit bytes of
// memory, whatever sizes the stream claims. The caller must pass each batch to [Check].
func NewReader(r io.Reader, size, limit int64) (*ipc.Reader, error) {
	mem := &bounded{limit: limit}
	return ipc.NewReaderFromMessageReader(newStream(r, min(size, limit), limit, mem), ipc.WithAllocator(mem))
}

// Check validates all offsets and indices in a batch. If rows share values, for example through a dictionary, the batch
// grows when each row gets its own copy. Check returns that growth in bytes, and rejects the batch if the growth
// exceeds limit.
func Check(batch arrow.RecordBatch, limit int64) (growth int64, err error) {
	i := 0
	defer func() {
		if p := recover(); p != nil { // Arrow's validation panics on some invalid inputs
			err = fmt.Errorf("column %q has type %s, and its rows refer to values that the batch does not contain: %v", batch.ColumnName(i), batch.Column(i).DataType(), p)
		}
	}()
	var column arrow.Array
	for i, column = range batch.Columns() {
		data := normalizeForCheck(column.Data())
		checked := array.MakeFromData(data)
		err := array.ValidateFull(checked)
		checked.Release()
		data.Release()
		if err != nil {
			return 0, fmt.Errorf("column %q: %w", batch.ColumnName(i), err)
		}
		more, err := expandedSize(column)
		if err != nil {
			return 0, fmt.Errorf("column %q: %w", batch.ColumnName(i), err)
		}
		if growth += more; growth > limit {
			return 0, fmt.Errorf("column %q: its rows share values, and separate copies take %d more bytes, over the limit of %d: send smaller batches: %w", batch.ColumnName(i), growth, limit, partd.ErrTooLarge)
		}
	}
	return growth, nil
}

// normalizeForCheck converts an array to the form that Arrow's validation expects. It adds buffers that streams omit,
// and removes the run that some writers put into an empty run-end-encoded array.
func normalizeForCheck(d arrow.ArrayData) arrow.ArrayData {
	buffers, children := d.Buffers(), make([]arrow.ArrayData, len(d.Children()))
	switch d.DataType().ID() {
	case arrow.NULL:
		buffers = []*memory.Buffer{nil}
	case arrow.DENSE_UNION:
		if d.Len() == 0 && len(buffers) == 3 && buffers[2] == nil {
			buffers = []*memory.Buffer{buffers[0], buffers[1], memory.NewBufferBytes(nil)}
		}
	}
	for i, child := range d.Children() {
		children[i] = normalizeForCheck(child)
		defer children[i].Release()
		if d.DataType().ID() == arrow.RUN_END_ENCODED && d.Len() == 0 {
			children[i] = array.NewSliceData(children[i], 0, 0)
			defer children[i].Release()
		}
	}
	if dictionary, ok := d.Dictionary().(*array.Data); ok && dictionary != nil {
		return array.NewDataWithDictionary(d.DataType(), d.Len(), buffers, d.NullN(), d.Offset(), dictionary)
	}
	return array.NewData(d.DataType(), d.Len(), buffers, children, d.NullN(), d.Offset())
}

// bounded is an allocator that panics if its memory would exceed limit. Arrow's reader returns the panic as an error.
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

// expandedSize returns by how many bytes an array grows if each row gets its own copy of its value. Rows can share the
// values of a dictionary, a run or a view. The array must be valid.
func expandedSize(a arrow.Array) (total int64, err error) {
	add := func(child arrow.Array) {
		if err == nil {
			var more int64
			more, err = expandedSize(child)
			total += more
		}
	}
	switch a := a.(type) {
	case *array.Dictionary, array.ViewLike:
		size, err := sizes(a)
		if err != nil {
			return 0, err
		}
		return size(0, a.Len()), nil
	case *array.RunEndEncoded:
		size, err := sizes(a.Values())
		if err != nil {
			return 0, err
		}
		from := 0
		for i := range a.Values().Len() {
			end := min(runEnd(a.RunEndsArr(), i), a.Len())
			total += (offsetSize + size(i, i+1)) * int64(max(0, end-from))
			from = end
		}
		return total, nil
	case array.ListLike:
		err = checkShared(a)
		add(a.ListValues())
	case *array.Struct:
		for i := range a.NumField() {
			add(a.Field(i))
		}
	case array.Union:
		for i := range a.NumFields() {
			add(a.Field(i))
		}
	case array.ExtensionArray:
		add(a.Storage())
	}
	return total, err
}

func checkShared(a array.ListLike) error {
	switch a.(type) {
	case *array.ListView, *array.LargeListView:
	default:
		return nil
	}
	unreferenced := int64(a.ListValues().Len())
	for i := range a.Len() {
		if from, to := a.ValueOffsets(i); a.IsValid(i) {
			unreferenced -= to - from
		}
	}
	if unreferenced < 0 {
		return fmt.Errorf("its lists share values: %w", partd.ErrTooLarge)
	}
	return nil
}

func runEnd(ends arrow.Array, i int) int {
	switch ends := ends.(type) {
	case *array.Int16:
		return int(ends.Value(i))
	case *array.Int32:
		return int(ends.Value(i))
	default:
		return int(ends.(*array.Int64).Value(i))
	}
}

// sizes returns sum, which returns the total size in bytes of a's values with indices from <= i < to. It stores no
// size per value, because there may be far more values than bytes.
func sizes(a arrow.Array) (sum func(from, to int) int64, err error) {
	switch a := a.(type) {
	case interface{ ValueLen(int) int }: // strings and binary values
		return sumEach(func(i int) int64 { return int64(a.ValueLen(i)) }), nil
	case *array.Dictionary:
		values, err := sizes(a.Dictionary())
		return sumEach(func(i int) int64 {
			if a.IsNull(i) {
				return offsetSize
			}
			k := a.GetValueIndex(i)
			return offsetSize + values(k, k+1)
		}), err
	case array.ExtensionArray:
		return sizes(a.Storage())
	case *array.Struct:
		fields := make([]func(from, to int) int64, a.NumField())
		for i := range fields {
			if fields[i], err = sizes(a.Field(i)); err != nil {
				return nil, err
			}
		}
		return func(from, to int) (total int64) {
			for _, field := range fields {
				total += field(from, to)
			}
			return total
		}, nil
	case array.ListLike:
		values, err := prefixSums(a.ListValues())
		return sumEach(func(i int) int64 { return values(a.ValueOffsets(i)) }), err
	}
	// The type has a fixed width, or is nested in a way that tables do not allow.
	width := int64(emptyValueSize)
	if a.Len() > 0 {
		width += int64(a.Data().SizeInBytes() / uint64(a.Len()))
	}
	return func(from, to int) int64 { return width * int64(to-from) }, nil
}

func sumEach(size func(int) int64) func(from, to int) int64 {
	return func(from, to int) (all int64) {
		for i := from; i < to; i++ {
			all += size(i)
		}
		return all
	}
}

// prefixSums is like sizes, but sum is fast even for long ranges. It stores up to maxValues sums.
func prefixSums(a arrow.Array) (func(from, to int64) int64, error) {
	const maxValues = 4 << 20
	values, err := sizes(a)
	if dt := a.DataType(); arrow.IsPrimitive(dt.ID()) || dt.ID() == arrow.NULL || arrow.IsDecimal(dt.ID()) {
		return func(from, to int64) int64 { return values(int(from), int(to)) }, err
	}
	if a.Len() > maxValues {
		return nil, fmt.Errorf("lists of %d values in a dictionary, in runs or in views are over the limit of %d: %w", a.Len(), maxValues, partd.ErrTooLarge)
	}
	sums := make([]int64, a.Len()+1)
	for i := 0; err == nil && i < a.Len(); i++ {
		sums[i+1] = sums[i] + values(i, i+1)
	}
	return func(from, to int64) int64 { return sums[to] - sums[from] }, err
}
