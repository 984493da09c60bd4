// Package take selects rows of Arrow arrays of every type. It replaces the kernels of arrow-go 18.8: the filter kernel
// turns some booleans into nulls, and other kernels do not support all types.
package take

import (
	"bytes"
	"fmt"
	"slices"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Where returns the rows of a batch where keep is true. The caller must release the result.
func Where(batch arrow.RecordBatch, keep []bool) (arrow.RecordBatch, error) {
	indices := Indices(keep)
	if len(indices) == len(keep) {
		batch.Retain()
		return batch, nil
	}
	return Batch(batch, indices)
}

// Batch returns the rows of a batch at indices. The caller must release the result.
func Batch(batch arrow.RecordBatch, indices []int) (arrow.RecordBatch, error) {
	return MakeBatch(batch.Schema(), int64(len(indices)), func(i int) (arrow.Array, error) { return Rows(batch.Column(i), indices) })
}

// MakeBatch is like NewBatch, but adds the column's name to an error.
func MakeBatch(s *arrow.Schema, rows int64, column func(i int) (arrow.Array, error)) (arrow.RecordBatch, error) {
	return NewBatch(s, rows, func(i int) (arrow.Array, error) {
		a, err := column(i)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", s.Field(i).Name, err)
		}
		return a, nil
	})
}

// NewBatch returns a batch whose columns come from the function column. It releases these columns. The caller must
// release the result.
func NewBatch(s *arrow.Schema, rows int64, column func(i int) (arrow.Array, error)) (arrow.RecordBatch, error) {
	columns := make([]arrow.Array, 0, s.NumFields())
	defer func() { Release(columns) }()
	for i := range s.NumFields() {
		a, err := column(i)
		if err != nil {
			return nil, err
		}
		columns = append(columns, a)
	}
	return array.NewRecordBatch(s, columns, rows), nil
}

// Indices returns the indices at which keep is true.
func Indices(keep []bool) []int {
	asBytes := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(keep))), len(keep)) // a bool is 0 or 1
	n := bytes.Count(asBytes, []byte{1})
	indices := make([]int, 0, n)
	if n > len(keep)/16 {
		for i, k := range keep {
			if k {
				indices = append(indices, i)
			}
		}
		return indices
	}
	for i := 0; len(indices) < n; i++ {
		i += bytes.IndexByte(asBytes[i:], 1)
		indices = append(indices, i)
	}
	return indices
}

// Rows returns the rows of an array at indices, in the order of indices. A negative index stands for a null. The
// caller must release the result.
func Rows(a arrow.Array, indices []int) (arrow.Array, error) {
	switch src := a.(type) {
	case *array.Null:
		return array.NewNull(len(indices)), nil
	case array.ExtensionArray:
		storage, err := Rows(src.Storage(), indices)
		if err != nil {
			return nil, err
		}
		defer storage.Release()
		return array.NewExtensionArrayWithStorage(a.DataType().(arrow.ExtensionType), storage), nil
	case *array.Dictionary:
		codes, err := Rows(src.Indices(), indices)
		if err != nil {
			return nil, err
		}
		defer codes.Release()
		return array.NewDictionaryArray(a.DataType(), codes, src.Dictionary()), nil
	case *array.Struct:
		children := make([]arrow.ArrayData, src.NumField())
		for i := range children {
			child, err := Rows(src.Field(i), indices)
			if err != nil {
				return nil, err
			}
			defer child.Release()
			children[i] = child.Data()
		}
		return buildRows(a, indices, nil, children), nil
	case *array.FixedSizeList:
		return fixedListRows(src, indices)
	case *array.List, *array.LargeList, *array.Map:
		return listRows(a.(array.ListLike), indices)
	case *array.String, *array.Binary:
		return textRows[int32](a, indices)
	case *array.LargeString, *array.LargeBinary:
		return textRows[int64](a, indices)
	case *array.StringView, *array.BinaryView:
		return viewRows(a, indices), nil
	case *array.Boolean:
		bits := make([]byte, bitutil.BytesForBits(int64(len(indices))))
		for i, row := range indices {
			if row >= 0 && src.Value(row) {
				bitutil.SetBit(bits, i)
			}
		}
		return buildRows(a, indices, []*memory.Buffer{memory.NewBufferBytes(bits)}, nil), nil
	}
	if t, ok := a.DataType().(arrow.FixedWidthDataType); ok && t.BitWidth()%8 == 0 {
		return buildRows(a, indices, []*memory.Buffer{fixedWidthValues(a, indices, t.BitWidth()/8)}, nil), nil
	}
	return sliceRows(a, indices)
}

// buildRows returns an array of a's type from buffers and children, which contain the rows at indices. It adds the null
// bitmap.
func buildRows(a arrow.Array, indices []int, buffers []*memory.Buffer, children []arrow.ArrayData) arrow.Array {
	nulls := 0
	var bits []byte
	hasNulls := a.NullN() > 0
	for i, row := range indices {
		if row >= 0 && (!hasNulls || a.IsValid(row)) {
			continue
		}
		nulls++
		if bits == nil {
			bits = make([]byte, bitutil.BytesForBits(int64(len(indices))))
			bitutil.SetBitsTo(bits, 0, int64(len(indices)), true)
		}
		bitutil.ClearBit(bits, i)
	}
	allBuffers := []*memory.Buffer{nil}
	if nulls > 0 {
		allBuffers[0] = memory.NewBufferBytes(bits)
	}
	return NewArray(a.DataType(), len(indices), append(allBuffers, buffers...), children, nulls, 0)
}

// NewArray returns an array made of the given parts.
func NewArray(t arrow.DataType, length int, buffers []*memory.Buffer, children []arrow.ArrayData, nulls, offset int) arrow.Array {
	data := array.NewData(t, length, buffers, children, nulls, offset)
	defer data.Release()
	return array.MakeFromData(data)
}

// NullBitmap returns a copy of the null bitmap, shifted to offset 0, or nil if no value is null.
func NullBitmap(a arrow.Array) *memory.Buffer {
	if a.NullN() == 0 {
		return nil
	}
	bits := make([]byte, bitutil.BytesForBits(int64(a.Len())))
	bitutil.CopyBitmap(a.NullBitmapBytes(), a.Data().Offset(), a.Len(), bits, 0)
	return memory.NewBufferBytes(bits)
}

func fixedWidthValues(a arrow.Array, indices []int, width int) *memory.Buffer {
	d := a.Data()
	out := make([]byte, len(indices)*width)
	if d.Buffers()[1] == nil || d.Len() == 0 {
		return memory.NewBufferBytes(out) // all values are null
	}
	src := d.Buffers()[1].Bytes()[d.Offset()*width:]
	switch width {
	case 4:
		copyWords(arrow.Uint32Traits.CastFromBytes(out), arrow.Uint32Traits.CastFromBytes(src), indices)
	case 8:
		copyWords(arrow.Uint64Traits.CastFromBytes(out), arrow.Uint64Traits.CastFromBytes(src), indices)
	default:
		for i, p := range indices {
			if p >= 0 {
				copy(out[i*width:(i+1)*width], src[p*width:])
			}
		}
	}
	return memory.NewBufferBytes(out)
}

func copyWords[T any](to, from []T, indices []int) {
	for i, p := range indices {
		if p >= 0 {
			to[i] = from[p]
		}
	}
}

// textRows returns the strings or binary values at indices. It copies adjacent values together.
func textRows[T int32 | int64](a arrow.Array, indices []int) (arrow.Array, error) {
	d := a.Data()
	offsets := make([]T, len(indices)+1)
	if d.Len() == 0 {
		return buildRows(a, indices, []*memory.Buffer{memory.NewBufferBytes(arrow.GetBytes(offsets)), nil}, nil), nil
	}
	srcOffsets := arrow.GetData[T](d.Buffers()[1].Bytes())[d.Offset():]
	size := int64(0)
	for i, p := range indices {
		if p >= 0 {
			size += int64(srcOffsets[p+1] - srcOffsets[p])
		}
		offsets[i+1] = T(size)
	}
	if int64(offsets[len(indices)]) != size {
		return nil, fmt.Errorf("the rows have %d bytes of text, and an array holds at most 2 GiB: read fewer rows at a time", size)
	}
	out := make([]byte, 0, size)
	if size > 0 {
		bytes := d.Buffers()[2].Bytes()
		for i := 0; i < len(indices); {
			runStart := i
			for i++; i < len(indices) && indices[runStart] >= 0 && indices[i] == indices[i-1]+1; i++ {
			}
			if indices[runStart] >= 0 {
				out = append(out, bytes[srcOffsets[indices[runStart]]:srcOffsets[indices[i-1]+1]]...)
			}
		}
	}
	return buildRows(a, indices, []*memory.Buffer{memory.NewBufferBytes(arrow.GetBytes(offsets)), memory.NewBufferBytes(out)}, nil), nil
}

// sliceRows returns the rows at indices of an array of any type. It is slower than the functions for specific types.
func sliceRows(a arrow.Array, indices []int) (arrow.Array, error) {
	parts := []arrow.Array{array.NewSlice(a, 0, 0)}
	defer func() { Release(parts) }()
	for i := 0; i < len(indices); {
		runStart := i
		for i++; i < len(indices) && indices[runStart] >= 0 && indices[i] == indices[i-1]+1; i++ {
		}
		if indices[runStart] < 0 {
			parts = append(parts, array.MakeArrayOfNull(memory.DefaultAllocator, a.DataType(), 1))
		} else {
			parts = append(parts, array.NewSlice(a, int64(indices[runStart]), int64(indices[i-1]+1)))
		}
	}
	return array.Concatenate(parts, memory.DefaultAllocator)
}

// Concat joins one or more batches with the same columns. The caller must release the result.
func Concat(batches []arrow.RecordBatch) (arrow.RecordBatch, error) {
	return ConcatIn(batches, memory.DefaultAllocator)
}

// ConcatIn is like Concat, but allocates the result with mem.
func ConcatIn(batches []arrow.RecordBatch, mem memory.Allocator) (arrow.RecordBatch, error) {
	first := batches[0]
	if len(batches) == 1 {
		first.Retain()
		return first, nil
	}
	var rows int64
	for _, b := range batches {
		rows += b.NumRows()
	}
	parts := make([]arrow.Array, len(batches))
	return MakeBatch(first.Schema(), rows, func(i int) (arrow.Array, error) {
		for j, b := range batches {
			parts[j] = b.Column(i)
		}
		return array.Concatenate(parts, mem)
	})
}

// Retain retains each batch and returns a copy of the list.
func Retain(batches []arrow.RecordBatch) []arrow.RecordBatch {
	for _, b := range batches {
		b.Retain()
	}
	return slices.Clone(batches)
}

// Release releases each batch or array.
func Release[T interface{ Release() }](all []T) {
	for _, a := range all {
		a.Release()
	}
}
