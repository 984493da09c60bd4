// Package take selects rows of Arrow arrays of every type. Arrow's filter kernel turns some
// booleans into nulls in columns that have nulls (arrow-go 18.8; see TestArrowFiltersBools), and
// other kernels lack types.
package take

import (
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Where returns the rows of a batch for which keep is true. The caller releases them.
func Where(batch arrow.RecordBatch, keep []bool) (arrow.RecordBatch, error) {
	at := Indices(keep)
	if len(at) == len(keep) {
		batch.Retain()
		return batch, nil
	}
	return Batch(batch, at)
}

// Batch returns the rows of a batch at indices. The caller releases them.
func Batch(batch arrow.RecordBatch, at []int) (arrow.RecordBatch, error) {
	columns := make([]arrow.Array, batch.NumCols())
	for i, c := range batch.Columns() {
		picked, err := Rows(c, at)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", batch.ColumnName(i), err)
		}
		defer picked.Release()
		columns[i] = picked
	}
	return array.NewRecordBatch(batch.Schema(), columns, int64(len(at))), nil
}

// Indices returns the indices at which keep is true.
func Indices(keep []bool) []int {
	n := 0
	for _, k := range keep {
		if k {
			n++
		}
	}
	at := make([]int, 0, n)
	for i, k := range keep {
		if k {
			at = append(at, i)
		}
	}
	return at
}

// Rows returns the rows of an array at indices, in their order. A negative index makes a null. The
// caller releases the rows.
func Rows(a arrow.Array, at []int) (arrow.Array, error) {
	switch from := a.(type) {
	case *array.Null:
		return array.NewNull(len(at)), nil
	case array.ExtensionArray:
		storage, err := Rows(from.Storage(), at)
		if err != nil {
			return nil, err
		}
		defer storage.Release()
		return array.NewExtensionArrayWithStorage(a.DataType().(arrow.ExtensionType), storage), nil
	case *array.Dictionary:
		indices, err := Rows(from.Indices(), at)
		if err != nil {
			return nil, err
		}
		defer indices.Release()
		return array.NewDictionaryArray(a.DataType(), indices, from.Dictionary()), nil
	case *array.Struct:
		children := make([]arrow.ArrayData, from.NumField())
		for i := range children {
			child, err := Rows(from.Field(i), at)
			if err != nil {
				return nil, err
			}
			defer child.Release()
			children[i] = child.Data()
		}
		return made(a, at, nil, children), nil
	case *array.FixedSizeList:
		return fixedLists(from, at)
	case *array.List, *array.LargeList, *array.Map:
		return lists(a.(array.ListLike), at)
	case *array.String, *array.Binary:
		return texts[int32](a, at)
	case *array.LargeString, *array.LargeBinary:
		return texts[int64](a, at)
	case *array.StringView, *array.BinaryView:
		buffers := a.Data().Buffers()
		views := []*memory.Buffer{fixed(a, at, arrow.ViewHeaderSizeBytes)}
		return made(a, at, append(views, buffers[2:]...), nil), nil
	case *array.Boolean:
		bits := make([]byte, bitutil.BytesForBits(int64(len(at))))
		for i, p := range at {
			if p >= 0 && from.Value(p) {
				bitutil.SetBit(bits, i)
			}
		}
		return made(a, at, []*memory.Buffer{memory.NewBufferBytes(bits)}, nil), nil
	}
	if t, ok := a.DataType().(arrow.FixedWidthDataType); ok && t.BitWidth()%8 == 0 {
		return made(a, at, []*memory.Buffer{fixed(a, at, t.BitWidth()/8)}, nil), nil
	}
	return runs(a, at)
}

// made returns the rows of a at indices from buffers and children that contain only these rows. It
// adds the null bitmap.
func made(a arrow.Array, at []int, buffers []*memory.Buffer, children []arrow.ArrayData) arrow.Array {
	nulls := 0
	var bits []byte
	has := a.NullN() > 0
	for i, from := range at {
		if from >= 0 && (!has || a.IsValid(from)) {
			continue
		}
		if nulls++; bits == nil {
			bits = make([]byte, bitutil.BytesForBits(int64(len(at))))
			bitutil.SetBitsTo(bits, 0, int64(len(at)), true)
		}
		bitutil.ClearBit(bits, i)
	}
	valid := []*memory.Buffer{nil}
	if nulls > 0 {
		valid[0] = memory.NewBufferBytes(bits)
	}
	return Made(a.DataType(), len(at), append(valid, buffers...), children, nulls, 0)
}

// Made returns an array from its parts.
func Made(t arrow.DataType, length int, buffers []*memory.Buffer, children []arrow.ArrayData, nulls, offset int) arrow.Array {
	data := array.NewData(t, length, buffers, children, nulls, offset)
	defer data.Release()
	return array.MakeFromData(data)
}

// Valid returns a copy of the null bitmap, shifted to offset 0, or nil if no value is null.
func Valid(a arrow.Array) *memory.Buffer {
	if a.NullN() == 0 {
		return nil
	}
	bits := make([]byte, bitutil.BytesForBits(int64(a.Len())))
	bitutil.CopyBitmap(a.NullBitmapBytes(), a.Data().Offset(), a.Len(), bits, 0)
	return memory.NewBufferBytes(bits)
}

// fixed returns the values at indices, each of width bytes.
func fixed(a arrow.Array, at []int, width int) *memory.Buffer {
	d := a.Data()
	out := make([]byte, len(at)*width)
	if d.Buffers()[1] == nil || d.Len() == 0 {
		return memory.NewBufferBytes(out) // all are nulls
	}
	from := d.Buffers()[1].Bytes()[d.Offset()*width:]
	switch width {
	case 4:
		words(arrow.Uint32Traits.CastFromBytes(out), arrow.Uint32Traits.CastFromBytes(from), at)
	case 8:
		words(arrow.Uint64Traits.CastFromBytes(out), arrow.Uint64Traits.CastFromBytes(from), at)
	default:
		for i, p := range at {
			if p >= 0 {
				copy(out[i*width:(i+1)*width], from[p*width:])
			}
		}
	}
	return memory.NewBufferBytes(out)
}

func words[T any](to, from []T, at []int) {
	for i, p := range at {
		if p >= 0 {
			to[i] = from[p]
		}
	}
}

// texts returns the texts at indices. It copies contiguous texts at once.
func texts[T int32 | int64](a arrow.Array, at []int) (arrow.Array, error) {
	d := a.Data()
	offsets := make([]T, len(at)+1)
	if d.Len() == 0 {
		return made(a, at, []*memory.Buffer{memory.NewBufferBytes(arrow.GetBytes(offsets)), nil}, nil), nil
	}
	from := arrow.GetData[T](d.Buffers()[1].Bytes())[d.Offset():]
	size := int64(0)
	for i, p := range at {
		if p >= 0 {
			size += int64(from[p+1] - from[p])
		}
		offsets[i+1] = T(size)
	}
	if int64(offsets[len(at)]) != size {
		return nil, fmt.Errorf("rows with %d bytes of texts, the limit is 2 GiB: take fewer rows at a time", size)
	}
	out := make([]byte, 0, size)
	if size > 0 {
		bytes := d.Buffers()[2].Bytes()
		for i := 0; i < len(at); {
			first := i
			for i++; i < len(at) && at[first] >= 0 && at[i] == at[i-1]+1; i++ {
			}
			if at[first] >= 0 {
				out = append(out, bytes[from[at[first]]:from[at[i-1]+1]]...)
			}
		}
	}
	return made(a, at, []*memory.Buffer{memory.NewBufferBytes(arrow.GetBytes(offsets)), memory.NewBufferBytes(out)}, nil), nil
}

// lists returns the lists or maps at indices, with their values.
func lists(a array.ListLike, at []int) (arrow.Array, error) {
	var inner []int
	ends := make([]int64, len(at)+1)
	for i, p := range at {
		if p >= 0 && a.IsValid(p) {
			for start, end := a.ValueOffsets(p); start < end; start++ {
				inner = append(inner, int(start))
			}
		}
		ends[i+1] = int64(len(inner))
	}
	child, err := Rows(a.ListValues(), inner)
	if err != nil {
		return nil, err
	}
	defer child.Release()
	if _, large := a.(*array.LargeList); large {
		return made(a, at, []*memory.Buffer{memory.NewBufferBytes(arrow.GetBytes(ends))}, []arrow.ArrayData{child.Data()}), nil
	}
	if len(inner) > math.MaxInt32 {
		return nil, fmt.Errorf("lists with %d values, the limit is 2³¹: take fewer rows at a time", len(inner))
	}
	short := make([]int32, len(ends))
	for i, end := range ends {
		short[i] = int32(end)
	}
	return made(a, at, []*memory.Buffer{memory.NewBufferBytes(arrow.GetBytes(short))}, []arrow.ArrayData{child.Data()}), nil
}

func fixedLists(a *array.FixedSizeList, at []int) (arrow.Array, error) {
	size := int(a.DataType().(*arrow.FixedSizeListType).Len())
	inner := make([]int, 0, len(at)*size)
	for _, p := range at {
		for j := range size {
			if p < 0 {
				inner = append(inner, -1)
				continue
			}
			start, _ := a.ValueOffsets(p)
			inner = append(inner, int(start)+j)
		}
	}
	child, err := Rows(a.ListValues(), inner)
	if err != nil {
		return nil, err
	}
	defer child.Release()
	return made(a, at, nil, []arrow.ArrayData{child.Data()}), nil
}

// runs returns the rows at indices for other types. It joins contiguous slices.
func runs(a arrow.Array, at []int) (arrow.Array, error) {
	all := []arrow.Array{array.NewSlice(a, 0, 0)}
	defer func() {
		for _, run := range all {
			run.Release()
		}
	}()
	for i := 0; i < len(at); {
		first := i
		for i++; i < len(at) && at[first] >= 0 && at[i] == at[i-1]+1; i++ {
		}
		if at[first] < 0 {
			all = append(all, array.MakeArrayOfNull(memory.DefaultAllocator, a.DataType(), 1))
		} else {
			all = append(all, array.NewSlice(a, int64(at[first]), int64(at[i-1]+1)))
		}
	}
	return array.Concatenate(all, memory.DefaultAllocator)
}
