// Package arrowsafe reads untrusted Arrow IPC streams in bounded memory, and checks the footers of
// untrusted Parquet files.
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

// NewReader returns a reader of a stream of at most size bytes. It uses at most limit bytes of memory, whatever
// sizes the stream claims. The caller must pass each batch to [Check].
func NewReader(r io.Reader, size, limit int64) (*ipc.Reader, error) {
	mem := &bounded{limit: limit}
	return ipc.NewReaderFromMessageReader(newStream(r, min(size, limit), limit, mem), ipc.WithAllocator(mem))
}

// Check validates all references in a batch. It returns the bytes by which the values exceed the batch's own
// size if each is stored separately, and refuses the batch if these exceed limit. Arrow's own check panics on
// some inputs that it should refuse.
func Check(batch arrow.RecordBatch, limit int64) (beyond int64, err error) {
	i := 0
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("column %q has type %s, and its rows refer to values that the batch does not contain: %v", batch.ColumnName(i), batch.Column(i).DataType(), p)
		}
	}()
	var column arrow.Array
	for i, column = range batch.Columns() {
		data := checkable(column.Data())
		whole := array.MakeFromData(data)
		err := array.ValidateFull(whole)
		whole.Release()
		data.Release()
		if err != nil {
			return 0, fmt.Errorf("column %q: %w", batch.ColumnName(i), err)
		}
		more, err := expandedSize(column)
		if err != nil {
			return 0, fmt.Errorf("column %q: %w", batch.ColumnName(i), err)
		}
		if beyond += more; beyond > limit {
			return 0, fmt.Errorf("column %q: the values to which its rows refer take %d bytes, over the limit of %d: send smaller batches: %w", batch.ColumnName(i), beyond, limit, partd.ErrTooLarge)
		}
	}
	return beyond, nil
}

// checkable returns an array as Arrow's check expects it: with the buffers that streams lack in arrays of nulls and
// in empty dense unions, and without the run of no values that some writers put into empty arrays of runs.
func checkable(d arrow.ArrayData) arrow.ArrayData {
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
		children[i] = checkable(child)
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

// bounded is an allocator that panics above a limit. Arrow's reader returns the panic as an error.
type bounded struct {
	limit int64
	used  atomic.Int64
}

func (b *bounded) reserve(n int) {
	if b.used.Add(int64(n)) > b.limit {
		b.used.Add(-int64(n))
		panic(fmt.Errorf("%d bytes more, over the limit of %d: %w", n, b.limit, partd.ErrTooLarge))
	}
}

func (b *bounded) Allocate(n int) []byte {
	b.reserve(n)
	return memory.DefaultAllocator.Allocate(n)
}

func (b *bounded) Reallocate(n int, was []byte) []byte {
	b.reserve(n - len(was))
	return memory.DefaultAllocator.Reallocate(n, was)
}

func (b *bounded) Free(was []byte) {
	b.used.Add(-int64(len(was)))
	memory.DefaultAllocator.Free(was)
}

// expandedSize returns the bytes by which values exceed their own size if each is stored separately. A value of
// a dictionary, a run or a view may occur many times. The array must be validated.
func expandedSize(a arrow.Array) (all int64, err error) {
	add := func(child arrow.Array) {
		if err == nil {
			var more int64
			more, err = expandedSize(child)
			all += more
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
			all += (offsetSize + size(i, i+1)) * int64(max(0, end-from))
			from = end
		}
		return all, nil
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
	return all, err
}

// checkShared refuses list views that share values.
func checkShared(a array.ListLike) error {
	switch a.(type) {
	case *array.ListView, *array.LargeListView:
	default:
		return nil
	}
	left := int64(a.ListValues().Len())
	for i := range a.Len() {
		if from, to := a.ValueOffsets(i); a.IsValid(i) {
			left -= to - from
		}
	}
	if left < 0 {
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

// sizes returns a function that adds up the bytes of a range of values. It stores almost nothing
// per value, because there may be far more values than bytes.
func sizes(a arrow.Array) (sum func(from, to int) int64, err error) {
	switch a := a.(type) {
	case interface{ ValueLen(int) int }: // texts and bytes
		return each(func(i int) int64 { return int64(a.ValueLen(i)) }), nil
	case *array.Dictionary:
		values, err := sizes(a.Dictionary())
		return each(func(i int) int64 {
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
		return func(from, to int) (all int64) {
			for _, field := range fields {
				all += field(from, to)
			}
			return all
		}, nil
	case array.ListLike:
		values, err := prefixSums(a.ListValues())
		return each(func(i int) int64 { return values(a.ValueOffsets(i)) }), err
	}
	// Fixed width, or nested in a way that no table allows.
	width := int64(wordless)
	if a.Len() > 0 {
		width += int64(a.Data().SizeInBytes() / uint64(a.Len()))
	}
	return func(from, to int) int64 { return width * int64(to-from) }, nil
}

func each(size func(int) int64) func(from, to int) int64 {
	return func(from, to int) (all int64) {
		for i := from; i < to; i++ {
			all += size(i)
		}
		return all
	}
}

// prefixSums is like sizes, for callers that ask for many ranges.
func prefixSums(a arrow.Array) (func(from, to int64) int64, error) {
	const maxValues = 4 << 20 // values
	values, err := sizes(a)
	if dt := a.DataType(); arrow.IsPrimitive(dt.ID()) || dt.ID() == arrow.NULL || arrow.IsDecimal(dt.ID()) {
		return func(from, to int64) int64 { return values(int(from), int(to)) }, err
	}
	if a.Len() > maxValues {
		return nil, fmt.Errorf("lists of %d values in a dictionary, in runs or in views are over the limit of %d: %w", a.Len(), maxValues, partd.ErrTooLarge)
	}
	until := make([]int64, a.Len()+1)
	for i := 0; err == nil && i < a.Len(); i++ {
		until[i+1] = until[i] + values(i, i+1)
	}
	return func(from, to int64) int64 { return until[to] - until[from] }, err
}
