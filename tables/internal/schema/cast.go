package schema

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/decimal"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/internal/take"
)

var heap = memory.DefaultAllocator

// Convert converts a batch to a schema: to what [Stored] says before it is
// written, to what [AsPut] says when it was read. Columns are taken by their
// place. The caller releases what it returns.
func Convert(batch arrow.RecordBatch, to *arrow.Schema) (arrow.RecordBatch, error) {
	if int(batch.NumCols()) != to.NumFields() {
		return nil, fmt.Errorf("a batch of %d columns for a schema of %d", batch.NumCols(), to.NumFields())
	}
	return convert(batch, to, func(i int, _ arrow.Field) []int { return []int{i} })
}

// ConvertNamed is Convert for columns that are found by name. Those that the batch lacks
// are null.
func ConvertNamed(batch arrow.RecordBatch, to *arrow.Schema) (arrow.RecordBatch, error) {
	return convert(batch, to, func(_ int, f arrow.Field) []int { return batch.Schema().FieldIndices(f.Name) })
}

// convert converts the first column that place has for each of a schema.
func convert(batch arrow.RecordBatch, to *arrow.Schema, place func(int, arrow.Field) []int) (arrow.RecordBatch, error) {
	columns := make([]arrow.Array, to.NumFields())
	defer releaseAll(columns)
	for i, f := range to.Fields() {
		at := place(i, f)
		if len(at) == 0 {
			columns[i] = array.MakeArrayOfNull(heap, f.Type, int(batch.NumRows()))
			continue
		}
		var err error
		if columns[i], err = ConvertArray(batch.Column(at[0]), f.Type); err != nil {
			return nil, fmt.Errorf("column %q: %w", f.Name, err)
		}
	}
	return array.NewRecordBatch(to, columns, batch.NumRows()), nil
}

// ConvertArray converts an array to a type of which it holds a wider or a narrower
// form. Buffers are shared where that is possible.
func ConvertArray(a arrow.Array, to arrow.DataType) (arrow.Array, error) {
	if arrow.TypeEqual(a.DataType(), to) {
		a.Retain()
		return a, nil
	}
	switch from := a.(type) {
	case *array.Null:
		return array.MakeArrayOfNull(heap, to, a.Len()), nil
	case *array.Dictionary:
		indices := make([]int, a.Len())
		for i := range indices {
			if indices[i] = -1; a.IsValid(i) {
				indices[i] = from.GetValueIndex(i)
			}
		}
		return expand(from.Dictionary(), indices, to)
	case *array.RunEndEncoded:
		physical := make([]int, a.Len())
		for i := range physical {
			physical[i] = from.GetPhysicalIndex(i)
		}
		return expand(from.Values(), physical, to)
	case array.ExtensionArray:
		return ConvertArray(from.Storage(), to)
	}
	switch to := to.(type) {
	case *arrow.NullType:
		return array.NewNull(a.Len()), nil
	case arrow.ExtensionType:
		storage, err := ConvertArray(a, to.StorageType())
		if err != nil {
			return nil, err
		}
		defer storage.Release()
		return array.NewExtensionArrayWithStorage(to, storage), nil
	case *arrow.StructType:
		if from, ok := a.(*array.Struct); ok {
			return convertStruct(from, to)
		}
	case *arrow.ListType, *arrow.LargeListType, *arrow.MapType, *arrow.FixedSizeListType:
		if from, ok := a.(array.ListLike); ok {
			return convertList(from, to.(arrow.ListLikeType))
		}
	case *arrow.StringType, *arrow.LargeStringType, *arrow.StringViewType, *arrow.BinaryType, *arrow.LargeBinaryType, *arrow.BinaryViewType:
		return convertTexts(a, to)
	}
	if sameBits(a.DataType(), to) {
		return take.Made(to, a.Len(), a.Data().Buffers(), nil, a.NullN(), a.Data().Offset()), nil
	}
	if out, err := convertEach(a, to); out != nil || err != nil {
		return out, err
	}
	out, err := compute.CastArray(context.Background(), a, compute.SafeCastOptions(to))
	if err != nil {
		return nil, fmt.Errorf("as %s: %w", to, err)
	}
	return out, nil
}

// expand takes values by their indices.
func expand(values arrow.Array, indices []int, to arrow.DataType) (arrow.Array, error) {
	all, err := take.Rows(values, indices)
	if err != nil {
		return nil, err
	}
	defer all.Release()
	return ConvertArray(all, to)
}

// sameBits tells whether one type's values are the other's under another name.
func sameBits(a, b arrow.DataType) bool {
	for range 2 {
		switch from := a.(type) {
		case *arrow.DurationType:
			return b.ID() == arrow.INT64
		case *arrow.Time64Type:
			return b.ID() == arrow.INT64 && from.Unit == arrow.Nanosecond
		case *arrow.TimestampType:
			to, ok := b.(*arrow.TimestampType)
			return ok && from.Unit == to.Unit
		}
		a, b = b, a
	}
	return false
}

func convertStruct(from *array.Struct, to *arrow.StructType) (arrow.Array, error) {
	if from.NumField() != to.NumFields() {
		return nil, fmt.Errorf("%s is no %s", from.DataType(), to)
	}
	children := make([]arrow.ArrayData, to.NumFields())
	for i, f := range to.Fields() {
		part := from.Field(i)
		if f.Type.ID() == arrow.FIXED_SIZE_LIST || f.Type.ID() == arrow.STRUCT {
			part = nullWhere(from, part)
			defer part.Release()
		}
		child, err := ConvertArray(part, f.Type)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", f.Name, err)
		}
		defer child.Release()
		children[i] = child.Data()
	}
	return take.Made(to, from.Len(), []*memory.Buffer{take.Valid(from)}, children, from.NullN(), 0), nil
}

// nullWhere returns a part of structs that is null where they are: a list of a fixed
// size, or a struct, that may not be null has no values there.
func nullWhere(structs, part arrow.Array) arrow.Array {
	if structs.NullN() == 0 {
		part.Retain()
		return part
	}
	d := part.Data()
	bits := make([]byte, bitutil.BytesForBits(int64(d.Offset()+d.Len())))
	for i := range d.Len() {
		bitutil.SetBitTo(bits, d.Offset()+i, structs.IsValid(i) && part.IsValid(i))
	}
	buffers := slices.Clone(d.Buffers())
	buffers[0] = memory.NewBufferBytes(bits)
	return take.Made(d.DataType(), d.Len(), buffers, d.Children(), array.UnknownNullCount, d.Offset())
}

// convertList converts between the kinds of lists, and maps.
func convertList(from array.ListLike, to arrow.ListLikeType) (arrow.Array, error) {
	values := from.ListValues()
	if to, ok := to.(*arrow.FixedSizeListType); ok { // before values are views, of which the library takes none
		all, err := spaced(from, values, int(to.Len()))
		if err != nil {
			return nil, err
		}
		defer all.Release()
		values = all
	}
	child, err := ConvertArray(values, to.Elem())
	if err != nil {
		return nil, err
	}
	defer child.Release()
	buffers := []*memory.Buffer{take.Valid(from), nil}
	switch to.(type) {
	case *arrow.FixedSizeListType:
		buffers = buffers[:1]
	case *arrow.LargeListType:
		buffers[1] = memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(offsets[int64](from)))
	default:
		var at []int32
		if at, child, err = withoutNulls(from, child); err != nil {
			return nil, err
		}
		defer child.Release()
		buffers[1] = memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(at))
	}
	return take.Made(to, from.Len(), buffers, []arrow.ArrayData{child.Data()}, from.NullN(), 0), nil
}

// offsets are where lists begin, and behind the last one where it ends.
func offsets[T int32 | int64](a array.ListLike) []T {
	out := make([]T, a.Len()+1)
	for i := range a.Len() {
		start, end := a.ValueOffsets(i)
		out[i], out[i+1] = T(start), T(end)
	}
	return out
}

// withoutNulls returns a list without values under its nulls, which Parquet does
// not take: lists of a fixed size have them always, others may.
func withoutNulls(a array.ListLike, values arrow.Array) (at []int32, _ arrow.Array, err error) {
	var indices []int
	hidden := false
	at = make([]int32, a.Len()+1)
	for i := range a.Len() {
		start, end := a.ValueOffsets(i)
		if a.IsNull(i) {
			hidden = hidden || end > start
			end = start
		}
		for ; start < end; start++ {
			indices = append(indices, int(start))
		}
		at[i+1] = int32(len(indices))
	}
	if !hidden {
		values.Retain()
		return offsets[int32](a), values, nil
	}
	out, err := take.Rows(values, indices)
	return at, out, err
}

// spaced puts lists that are as long as a list of a fixed size behind each other,
// and as much room where one is null.
func spaced(from array.ListLike, values arrow.Array, size int) (arrow.Array, error) {
	var indices []int
	for i := range from.Len() {
		start, end := from.ValueOffsets(i)
		switch {
		case from.IsNull(i):
			for range size {
				indices = append(indices, -1)
			}
			continue
		case int(end-start) != size:
			return nil, fmt.Errorf("row %d is a list of %d, and the type has lists of %d", i, end-start, size)
		}
		for at := start; at < end; at++ {
			indices = append(indices, int(at))
		}
	}
	return take.Rows(values, indices)
}

// bytesArray is an array of bytes of any layout.
type bytesArray interface {
	arrow.Array
	Value(int) []byte
}

// each builds an array by a function of the values of another.
func each[V any](a interface {
	arrow.Array
	Value(int) V
}, b array.Builder, add func(V),
) arrow.Array {
	defer b.Release()
	b.Reserve(a.Len())
	for i := range a.Len() {
		if a.IsNull(i) {
			b.AppendNull()
		} else {
			add(a.Value(i))
		}
	}
	return b.NewArray()
}

// convertEach makes the conversions that Arrow's library lacks, or makes wrongly; nil
// for others.
func convertEach(a arrow.Array, to arrow.DataType) (out arrow.Array, err error) {
	builder := array.NewBuilder(heap, to)
	switch b := builder.(type) {
	case *array.Float16Builder:
		if from, ok := a.(*array.Float32); ok {
			out = each(from, b, func(v float32) {
				half := Half(float64(v))
				if math.IsInf(float64(FromHalf(half)), 0) != math.IsInf(float64(v), 0) {
					err = fmt.Errorf("%v is no %s", v, to)
				}
				b.Append(half)
			})
			return out, err
		}
	case *array.Float32Builder:
		if from, ok := a.(*array.Float16); ok {
			return each(from, b, func(v float16.Num) { b.Append(FromHalf(v)) }), nil
		}
	case *array.Float64Builder:
		if from, ok := a.(*array.Int64); ok {
			out = each(from, b, func(v int64) {
				f := float64(v)
				if f == 1<<63 || int64(f) != v {
					err = fmt.Errorf("as %s: %d would be rounded", to, v)
				}
				b.Append(f)
			})
			return out, err
		}
	case *array.FixedSizeBinaryBuilder: // which SQL returns as binary
		if from, ok := a.(bytesArray); ok && a.DataType().ID() != arrow.FIXED_SIZE_BINARY {
			size := to.(*arrow.FixedSizeBinaryType).ByteWidth
			out = each(from, b, func(v []byte) {
				if len(v) == size {
					b.Append(v)
				} else {
					b.AppendNull()
					err = fmt.Errorf("a value of %d bytes is no %s", len(v), to)
				}
			})
			return out, err
		}
	case *array.Decimal32Builder:
		if from, ok := a.(*array.Decimal128); ok {
			return each(from, b, func(v decimal128.Num) { b.Append(decimal.Decimal32(v.LowBits())) }), nil
		}
	case *array.Decimal64Builder:
		if from, ok := a.(*array.Decimal128); ok {
			return each(from, b, func(v decimal128.Num) { b.Append(decimal.Decimal64(v.LowBits())) }), nil
		}
	case *array.Decimal128Builder:
		switch from := a.(type) {
		case *array.Decimal32:
			return each(from, b, func(v decimal.Decimal32) { b.Append(decimal128.FromI64(int64(v))) }), nil
		case *array.Decimal64:
			return each(from, b, func(v decimal.Decimal64) { b.Append(decimal128.FromI64(int64(v))) }), nil
		}
	}
	builder.Release()
	return nil, nil
}

// convertTexts converts between texts and bytes of all layouts, by copying.
func convertTexts(a arrow.Array, to arrow.DataType) (arrow.Array, error) {
	if size := int64(a.Data().SizeInBytes()); size > math.MaxInt32 {
		return nil, fmt.Errorf("a batch with %d bytes of texts, the limit is 2 GiB: put it in smaller batches", size)
	}
	builder := array.NewBuilder(heap, to)
	switch b := builder.(type) {
	case array.StringLikeBuilder:
		if from, ok := a.(array.StringLike); ok {
			return each(from, b, b.Append), nil
		}
		if from, ok := a.(bytesArray); ok { // of files whose writers note no texts
			texts := each(from, builder, func(v []byte) { b.Append(string(v)) })
			return texts, CheckArray(texts)
		}
	case interface{ Append([]byte) }:
		if from, ok := a.(bytesArray); ok {
			return each(from, builder, b.Append), nil
		}
	}
	builder.Release()
	return nil, fmt.Errorf("%s is no %s", a.DataType(), to)
}
