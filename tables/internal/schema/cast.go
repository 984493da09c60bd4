package schema

import (
	"context"
	"errors"
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

// Convert converts a batch to a schema: to the result of [Stored] before writing, or to that of [AsPut] after
// reading. Columns are matched by position. The caller releases the result.
func Convert(batch arrow.RecordBatch, to *arrow.Schema) (arrow.RecordBatch, error) {
	if int(batch.NumCols()) != to.NumFields() {
		return nil, fmt.Errorf("a batch of %d columns for a schema of %d", batch.NumCols(), to.NumFields())
	}
	return convert(batch, to, func(i int, _ arrow.Field) []int { return []int{i} })
}

// ConvertNamed is like Convert, but matches columns by name. Missing columns are null.
func ConvertNamed(batch arrow.RecordBatch, to *arrow.Schema) (arrow.RecordBatch, error) {
	return convert(batch, to, func(_ int, f arrow.Field) []int { return batch.Schema().FieldIndices(f.Name) })
}

// convert converts a batch to a schema. Each field comes from the first column that place returns.
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

// ConvertArray converts an array to a wider or narrower form of its type. It shares buffers if
// possible. Values under null lists are removed.
func ConvertArray(a arrow.Array, to arrow.DataType) (arrow.Array, error) {
	if arrow.TypeEqual(a.DataType(), to) && !hasHidden(a) {
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

// expand returns the values at indices.
func expand(values arrow.Array, indices []int, to arrow.DataType) (arrow.Array, error) {
	expanded, err := take.Rows(values, indices)
	if err != nil {
		return nil, err
	}
	defer expanded.Release()
	return ConvertArray(expanded, to)
}

// sameBits reports whether two types represent values by the same bytes.
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
		child, err := convertField(from, from.Field(i), f.Type)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", f.Name, err)
		}
		defer child.Release()
		children[i] = child.Data()
	}
	return take.Made(to, from.Len(), []*memory.Buffer{take.Valid(from)}, children, from.NullN(), 0), nil
}

// convertField converts a field of structs.
func convertField(structs, part arrow.Array, to arrow.DataType) (arrow.Array, error) {
	if structs.NullN() == 0 {
		return ConvertArray(part, to)
	}
	switch part.DataType().ID() {
	case arrow.DICTIONARY, arrow.RUN_END_ENCODED, arrow.EXTENSION:
		decoded, err := ConvertArray(part, to)
		if err != nil {
			return nil, err
		}
		defer decoded.Release()
		part = decoded
	}
	part = nullWhere(structs, part)
	defer part.Release()
	return ConvertArray(part, to)
}

// hasHidden reports whether an array contains values under nulls: list values under null lists, or other values
// under null structs. Arrow allows them, but Parquet's writer fails on such lists and decimals (arrow-go 18.8).
func hasHidden(a arrow.Array) bool {
	switch a := a.(type) {
	case *array.Struct:
		for i := range a.NumField() {
			if part := a.Field(i); filled(part, a) || hasHidden(part) {
				return true
			}
		}
	case *array.FixedSizeList:
		return hasHidden(a.ListValues())
	case array.ListLike:
		return filled(a, a) || hasHidden(a.ListValues())
	}
	return false
}

// filled reports whether a has a value where nulls has a null.
func filled(a, nulls arrow.Array) bool {
	id := a.DataType().ID()
	if nulls.NullN() == 0 || id == arrow.NULL || id == arrow.RUN_END_ENCODED {
		return false
	}
	list, isList := a.(array.ListLike)
	isList = isList && id != arrow.FIXED_SIZE_LIST // excluded, because it has values under nulls by design
	for i := range a.Len() {
		if nulls.IsValid(i) {
			continue
		}
		hasValue := a.IsValid(i)
		if isList {
			start, end := list.ValueOffsets(i)
			hasValue = start < end
		}
		if hasValue {
			return true
		}
	}
	return false
}

// nullWhere returns a field of structs that is null where the structs are null. Its values under null structs
// are undefined, and may not fit another type.
func nullWhere(structs, part arrow.Array) arrow.Array {
	if part.DataType().ID() == arrow.NULL {
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

// convertList converts between kinds of lists, and maps.
func convertList(from array.ListLike, to arrow.ListLikeType) (arrow.Array, error) {
	var offsets []int64
	var values arrow.Array
	var err error
	if to, ok := to.(*arrow.FixedSizeListType); ok {
		values, err = spaced(from, from.ListValues(), int(to.Len()))
	} else {
		offsets, values, err = visible(from)
	}
	if err != nil {
		return nil, err
	}
	defer values.Release()
	child, err := ConvertArray(values, to.Elem())
	if err != nil {
		return nil, err
	}
	defer child.Release()
	buffers := []*memory.Buffer{take.Valid(from), memory.NewBufferBytes(arrow.GetBytes(offsets))}
	switch to.(type) {
	case *arrow.FixedSizeListType:
		buffers = buffers[:1]
	case *arrow.LargeListType:
	default:
		if entries, ok := child.(*array.Struct); ok && to.ID() == arrow.MAP && entries.Field(0).NullN() > 0 {
			return nil, errors.New("a map has a null as a key")
		}
		short := make([]int32, len(offsets))
		for i, end := range offsets {
			short[i] = int32(end)
		}
		buffers[1] = memory.NewBufferBytes(arrow.GetBytes(short))
	}
	return take.Made(to, from.Len(), buffers, []arrow.ArrayData{child.Data()}, from.NullN(), 0), nil
}

// visible returns the values of lists, the offset of each list's start, and the last list's end. It removes
// values under nulls, which Parquet refuses, and values outside all lists.
func visible(a array.ListLike) (offsets []int64, values arrow.Array, err error) {
	offsets = make([]int64, a.Len()+1)
	first, last := int64(0), int64(0)
	hidden := false
	for i := range a.Len() {
		start, end := a.ValueOffsets(i)
		if i == 0 {
			first = start
		}
		hidden = hidden || a.IsNull(i) && end > start
		offsets[i+1], last = end-first, end
	}
	values = a.ListValues()
	if _, isMap := a.(*array.Map); isMap && last-first < int64(values.Len()) {
		hidden = true // the library does not accept a slice as the entries of a map (arrow-go 18.8)
	}
	if !hidden {
		return offsets, array.NewSlice(values, first, last), nil
	}
	var indices []int
	for i := range a.Len() {
		for start, end := a.ValueOffsets(i); start < end && a.IsValid(i); start++ {
			indices = append(indices, int(start))
		}
		offsets[i+1] = int64(len(indices))
	}
	values, err = take.Rows(values, indices)
	return offsets, values, err
}

// spaced returns the values of lists at fixed distances, with empty space for null lists. All other lists must
// have the fixed size.
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

// bytesArray is an array of bytes in any layout.
type bytesArray interface {
	arrow.Array
	Value(int) []byte
}

// each builds an array by calling add with each value of another array.
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

// convertEach makes conversions that Arrow's library lacks or gets wrong. It returns nil for other types.
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
	case *array.FixedSizeBinaryBuilder: // SQL returns these as binary
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

// convertTexts converts between all layouts of texts and bytes by copying.
func convertTexts(a arrow.Array, to arrow.DataType) (arrow.Array, error) {
	size := int64(a.Data().SizeInBytes())
	if views, ok := a.(interface{ ValueLen(int) int }); ok { // views may share bytes
		size = 0
		for i := range a.Len() {
			size += int64(views.ValueLen(i))
		}
	}
	if size > math.MaxInt32 {
		return nil, fmt.Errorf("a batch with %d bytes of texts, the limit is 2 GiB: put it in smaller batches", size)
	}
	builder := array.NewBuilder(heap, to)
	switch b := builder.(type) {
	case array.StringLikeBuilder:
		if from, ok := a.(array.StringLike); ok {
			return each(from, b, b.Append), nil
		}
		if from, ok := a.(bytesArray); ok { // bytes from files whose writers did not mark texts
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
