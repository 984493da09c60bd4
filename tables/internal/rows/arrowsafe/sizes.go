package arrowsafe

import (
	"context"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd"
)

// expandedSize returns the number of bytes by which an array grows if each row gets its own copy of its value. Rows can
// share values in a dictionary, a run or a view. The array must be valid.
func (w *walk) expandedSize(a arrow.Array) (total int64) {
	switch a := a.(type) {
	case *array.Dictionary, array.ViewLike:
		return w.sizes(a)(0, a.Len())
	case *array.RunEndEncoded:
		size, from := w.sizes(a.Values()), 0
		for i := 0; from < a.Len() && total <= w.limit && w.visit(); i++ {
			end := min(runEnd(a.RunEndsArr(), i), a.Len())
			total += (offsetSize + size(i, i+1)) * int64(max(0, end-from))
			from = end
		}
	case array.ListLike:
		w.failIfOverlapping(a)
		total = w.expandedSize(a.ListValues())
	case *array.Struct:
		for i := range a.NumField() {
			total += w.expandedSize(a.Field(i))
		}
	case array.Union:
		for i := range a.NumFields() {
			total += w.expandedSize(a.Field(i))
		}
	case array.ExtensionArray:
		total = w.expandedSize(a.Storage())
	}
	return total
}

// LargestRow returns the index and the size, in bytes, of the largest row. The batch must be valid.
func LargestRow(ctx context.Context, b arrow.RecordBatch) (row int, size int64) {
	w := &walk{ctx: ctx, limit: math.MaxInt64, isExact: true}
	sizes := make([]int64, b.NumRows())
	for _, a := range b.Columns() {
		sum := w.sizes(a)
		for i := range sizes {
			sizes[i] += sum(i, i+1)
		}
	}
	for i, n := range sizes {
		if n > size {
			row, size = i, n
		}
	}
	return row, size
}

func (w *walk) failIfOverlapping(a array.ListLike) {
	switch a.(type) {
	case *array.ListView, *array.LargeListView:
	default:
		return
	}
	unreferenced := int64(a.ListValues().Len())
	for i := 0; i < a.Len() && w.visit(); i++ {
		if from, to := a.ValueOffsets(i); a.IsValid(i) {
			unreferenced -= to - from
		}
	}
	if unreferenced < 0 {
		w.fail(fmt.Errorf("its lists overlap in the array of values: %w", partd.ErrTooLarge))
	}
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

// sizes returns a function sum(from, to), which returns the total size, in bytes, of a's values with indices from <= i
// < to. It stores no size per value, because there may be far more values than bytes. If w fails, the sums are too
// small.
func (w *walk) sizes(a arrow.Array) (sum func(from, to int) int64) {
	switch a := a.(type) {
	case interface { // strings and binary values
		IsNull(int) bool
		NullN() int
		ValueLen(int) int
	}:
		hasNulls := a.NullN() > 0
		return w.sumEach(func(i int) int64 {
			if hasNulls && a.IsNull(i) { // in this case, a view can have any length
				return 0
			}
			return int64(a.ValueLen(i))
		})
	case *array.Dictionary:
		values := w.sizes(a.Dictionary())
		return w.sumEach(func(i int) int64 {
			if a.IsNull(i) {
				return offsetSize
			}
			k := a.GetValueIndex(i)
			return offsetSize + values(k, k+1)
		})
	case array.ExtensionArray:
		return w.sizes(a.Storage())
	case *array.Struct:
		fields := make([]func(from, to int) int64, a.NumField())
		for i := range fields {
			fields[i] = w.sizes(a.Field(i))
		}
		return func(from, to int) (total int64) {
			for i := 0; i < len(fields) && w.visit(); i++ {
				total += fields[i](from, to)
			}
			return total
		}
	case array.ListLike:
		if w.isExact { // each value is visited once, so sums need no memory
			values := w.sizes(a.ListValues())
			return w.sumEach(func(i int) int64 {
				from, to := a.ValueOffsets(i)
				return values(int(from), int(to))
			})
		}
		values := w.prefixSums(a.ListValues())
		return w.sumEach(func(i int) int64 { return values(a.ValueOffsets(i)) })
	}
	// The type has a fixed width, or is nested in a way that tables do not allow.
	if t, ok := a.DataType().(arrow.FixedWidthDataType); ok && w.isExact {
		return func(from, to int) int64 { return int64(t.BitWidth()) * int64(to-from) / 8 }
	}
	width := int64(emptyValueSize)
	if a.Len() > 0 {
		width += int64(a.Data().SizeInBytes() / uint64(a.Len()))
	}
	return func(from, to int) int64 { return width * int64(to-from) }
}

// sumEach returns a function that sums size over a range. w fails if a sum exceeds w.limit, so sums cannot overflow.
func (w *walk) sumEach(size func(int) int64) func(from, to int) int64 {
	return func(from, to int) (total int64) {
		for i := from; i < to && w.visit(); i++ {
			total += size(i)
			if total > w.limit {
				w.fail(w.tooLarge())
			}
		}
		return total
	}
}

// prefixSums is like sizes, but its result is fast even for long ranges. It stores up to maxValues sums.
func (w *walk) prefixSums(a arrow.Array) func(from, to int64) int64 {
	const maxValues = 4 << 20
	values := w.sizes(a)
	if dt := a.DataType(); arrow.IsPrimitive(dt.ID()) || dt.ID() == arrow.NULL || arrow.IsDecimal(dt.ID()) {
		return func(from, to int64) int64 { return values(int(from), int(to)) }
	}
	if a.Len() > maxValues {
		w.fail(fmt.Errorf("lists of %d values in a dictionary, in runs or in views are over the limit of %d: %w", a.Len(), maxValues, partd.ErrTooLarge))
		return func(int64, int64) int64 { return 0 }
	}
	sums := make([]int64, a.Len()+1)
	for i := 0; w.err == nil && i < a.Len(); i++ {
		sums[i+1] = sums[i] + values(i, i+1)
	}
	return func(from, to int64) int64 { return sums[to] - sums[from] }
}
