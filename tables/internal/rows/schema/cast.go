package schema

import (
	"cmp"
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
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/uuid"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

var allocator = memory.DefaultAllocator

// Convert converts a batch to a schema, by position. Before rows are written, the schema comes from [Stored]; after
// rows are read, it comes from [RestorePutTypes]. The caller must release the result.
func Convert(batch arrow.RecordBatch, to *arrow.Schema) (arrow.RecordBatch, error) {
	if int(batch.NumCols()) != to.NumFields() {
		return nil, fmt.Errorf("a batch has %d columns, but its schema has %d", batch.NumCols(), to.NumFields())
	}
	return convert(batch, to, func(i int, _ arrow.Field) []int { return []int{i} })
}

// ConvertNamed is like Convert, but matches columns by name. Missing columns become null.
func ConvertNamed(batch arrow.RecordBatch, to *arrow.Schema) (arrow.RecordBatch, error) {
	return convert(batch, to, func(_ int, f arrow.Field) []int { return batch.Schema().FieldIndices(f.Name) })
}

// convert converts a batch to a schema. indicesOf returns the indices in the batch of one of the schema's columns;
// convert uses the first, or nulls if there are none.
func convert(batch arrow.RecordBatch, to *arrow.Schema, indicesOf func(int, arrow.Field) []int) (arrow.RecordBatch, error) {
	return take.MakeBatch(to, batch.NumRows(), func(i int) (arrow.Array, error) {
		f := to.Field(i)
		indices := indicesOf(i, f)
		if len(indices) == 0 {
			return array.MakeArrayOfNull(allocator, f.Type, int(batch.NumRows())), nil
		}
		return ConvertArray(batch.Column(indices[0]), f.Type)
	})
}

// ConvertArray converts an array to a wider or narrower form of its type. It shares buffers where possible. Values
// under null lists are dropped.
func ConvertArray(a arrow.Array, to arrow.DataType) (arrow.Array, error) {
	if arrow.TypeEqual(a.DataType(), to) && !hasHiddenValues(a) {
		a.Retain()
		return a, nil
	}
	switch from := a.(type) {
	case *array.Null:
		return array.MakeArrayOfNull(allocator, to, a.Len()), nil
	case *array.Dictionary:
		indices := make([]int, a.Len())
		for i := range indices {
			indices[i] = -1
			if a.IsValid(i) {
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
	case *extensions.UUIDArray:
		if to.ID() == arrow.STRING { // the type of a UUID that SQL returns
			b := array.NewStringBuilder(allocator)
			return mapValues(from, b, func(v uuid.UUID) { b.Append(v.String()) }), nil
		}
		return ConvertArray(from.Storage(), to)
	case array.ExtensionArray:
		return ConvertArray(from.Storage(), to)
	}
	switch to := to.(type) {
	case *arrow.NullType:
		return array.NewNull(a.Len()), nil
	case arrow.ExtensionType:
		if texts, ok := a.(*array.String); ok && to.ExtensionName() == uuidName {
			return parseUUIDs(texts)
		}
		storage, err := ConvertArray(a, to.StorageType())
		if err != nil {
			return nil, err
		}
		defer storage.Release()
		return array.NewExtensionArrayWithStorage(to, storage), nil
	case *arrow.DictionaryType:
		return encodeDictionary(a, to)
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
		return take.NewArray(to, a.Len(), a.Data().Buffers(), nil, a.NullN(), a.Data().Offset()), nil
	}
	if result, err := convertEach(a, to); result != nil || err != nil {
		return result, err
	}
	if d, ok := to.(*arrow.Decimal128Type); ok {
		decimal, isDecimal := a.DataType().(arrow.DecimalType)
		switch {
		case isDecimal && decimal.GetScale() == d.Scale, !isDecimal && (d.Scale == 0 || !arrow.IsInteger(a.DataType().ID())):
		case a.DataType().ID() == arrow.DECIMAL256:
			return nil, fmt.Errorf("cannot convert %s to %s", a.DataType(), to)
		default: // If a result needed more bits, the library would panic in a goroutine of its own, which ends the process.
			wide, err := ConvertArray(a, &arrow.Decimal256Type{Precision: 76, Scale: d.Scale})
			if err != nil {
				return nil, err
			}
			defer wide.Release()
			a = wide
		}
	}
	result, err := compute.CastArray(context.Background(), a, compute.SafeCastOptions(to))
	from, hasUnit := a.DataType().(arrow.TemporalWithUnit)
	if coarser, ok := to.(arrow.TemporalWithUnit); err != nil && hasUnit && ok && from.TimeUnit() > coarser.TimeUnit() {
		return nil, fmt.Errorf("a value of type %s has digits that are too small for %s: round the values, or put them into a new table with a finer unit", from, to)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot convert to %s: %w", to, err)
	}
	return result, nil
}

var uuidName = extensions.NewUUIDType().ExtensionName()

func parseUUIDs(texts *array.String) (_ arrow.Array, err error) {
	b := extensions.NewUUIDBuilder(allocator)
	result := mapValues(texts, b, func(v string) { err = cmp.Or(b.AppendValueFromString(v), err) })
	return result, err
}

func expand(values arrow.Array, indices []int, to arrow.DataType) (arrow.Array, error) {
	expanded, err := take.Rows(values, indices)
	if err != nil {
		return nil, err
	}
	defer expanded.Release()
	return ConvertArray(expanded, to)
}

// sameBits reports whether two types represent equal values by the same bits.
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
		return nil, fmt.Errorf("cannot convert %s to %s", from.DataType(), to)
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
	return take.NewArray(to, from.Len(), []*memory.Buffer{take.NullBitmap(from)}, children, from.NullN(), 0), nil
}

// convertField converts a field of a struct array. Values in null structs become null.
func convertField(structs, field arrow.Array, to arrow.DataType) (arrow.Array, error) {
	if structs.NullN() == 0 {
		return ConvertArray(field, to)
	}
	switch field.DataType().ID() {
	case arrow.DICTIONARY, arrow.RUN_END_ENCODED, arrow.EXTENSION:
		decoded, err := ConvertArray(field, to)
		if err != nil {
			return nil, err
		}
		defer decoded.Release()
		field = decoded
	}
	field = maskNulls(structs, field)
	defer field.Release()
	return ConvertArray(field, to)
}

// hasHiddenValues reports whether an array has values in null lists or null structs. If such values are lists or
// decimals, Parquet's writer fails (arrow-go 18.8).
func hasHiddenValues(a arrow.Array) bool {
	switch a := a.(type) {
	case *array.Struct:
		for i := range a.NumField() {
			if field := a.Field(i); hasValueUnderNull(field, a) || hasHiddenValues(field) {
				return true
			}
		}
	case *array.FixedSizeList:
		return hasHiddenValues(a.ListValues())
	case array.ListLike:
		return hasValueUnderNull(a, a) || hasHiddenValues(a.ListValues())
	}
	return false
}

// hasValueUnderNull reports whether a has a value in any row where nulls is null.
func hasValueUnderNull(a, nulls arrow.Array) bool {
	id := a.DataType().ID()
	if nulls.NullN() == 0 || id == arrow.NULL || id == arrow.RUN_END_ENCODED {
		return false
	}
	list, isList := a.(array.ListLike)
	isList = isList && id != arrow.FIXED_SIZE_LIST // Fixed-size lists always have values under nulls.
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

// maskNulls returns field with a null in each row where the struct is null. In such a row, the field's value is
// undefined, and may be invalid in another type.
func maskNulls(structs, field arrow.Array) arrow.Array {
	if field.DataType().ID() == arrow.NULL {
		field.Retain()
		return field
	}
	d := field.Data()
	bits := make([]byte, bitutil.BytesForBits(int64(d.Offset()+d.Len())))
	for i := range d.Len() {
		bitutil.SetBitTo(bits, d.Offset()+i, structs.IsValid(i) && field.IsValid(i))
	}
	buffers := slices.Clone(d.Buffers())
	buffers[0] = memory.NewBufferBytes(bits)
	return take.NewArray(d.DataType(), d.Len(), buffers, d.Children(), array.UnknownNullCount, d.Offset())
}

// convertList converts one kind of list to another, or one map type to another.
func convertList(from array.ListLike, to arrow.ListLikeType) (arrow.Array, error) {
	var offsets []int64
	var values arrow.Array
	var err error
	if to, ok := to.(*arrow.FixedSizeListType); ok {
		values, err = padToSize(from, from.ListValues(), int(to.Len()))
	} else {
		offsets, values, err = visibleValues(from)
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
	buffers := []*memory.Buffer{take.NullBitmap(from), memory.NewBufferBytes(arrow.GetBytes(offsets))}
	switch to.(type) {
	case *arrow.FixedSizeListType:
		buffers = buffers[:1]
	case *arrow.LargeListType:
	default:
		if entries, ok := child.(*array.Struct); ok && to.ID() == arrow.MAP && entries.Field(0).NullN() > 0 {
			return nil, errors.New("a map has a null key")
		}
		buffers[1] = take.Offsets32(offsets)
	}
	return take.NewArray(to, from.Len(), buffers, []arrow.ArrayData{child.Data()}, from.NullN(), 0), nil
}

// visibleValues returns the values in lists, and the lists' offsets into these values. It omits values under nulls,
// because Parquet rejects them.
func visibleValues(a array.ListLike) (offsets []int64, values arrow.Array, err error) {
	offsets = make([]int64, a.Len()+1)
	first, last := int64(0), int64(0)
	hasHidden := false
	for i := range a.Len() {
		start, end := a.ValueOffsets(i)
		if i == 0 {
			first = start
		}
		hasHidden = hasHidden || a.IsNull(i) && end > start
		offsets[i+1], last = end-first, end
	}
	values = a.ListValues()
	switch a.(type) {
	case *array.ListView, *array.LargeListView:
		hasHidden = true // their values can have any order
	}
	if _, isMap := a.(*array.Map); isMap && last-first < int64(values.Len()) {
		hasHidden = true // Copy the values, because arrow-go 18.8 does not accept a slice as a map's entries.
	}
	if !hasHidden {
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

// padToSize returns the values of lists, with exactly size values per list. A null list gets null values; any other
// list must have that size.
func padToSize(from array.ListLike, values arrow.Array, size int) (arrow.Array, error) {
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
			return nil, fmt.Errorf("row %d is a list of %d values, but the type requires %d", i, end-start, size)
		}
		for index := start; index < end; index++ {
			indices = append(indices, int(index))
		}
	}
	return take.Rows(values, indices)
}

type valueArray[V any] interface {
	arrow.Array
	Value(int) V
}

// mapValues builds an array by calling add for each value of a.
func mapValues[V any](a valueArray[V], b array.Builder, add func(V)) arrow.Array {
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

// convertEach converts an array value by value. It handles the types that Arrow's library cannot convert, or converts
// incorrectly. For other types, it returns nil.
func convertEach(a arrow.Array, to arrow.DataType) (result arrow.Array, err error) {
	builder := array.NewBuilder(allocator, to)
	switch b := builder.(type) {
	case *array.Float16Builder:
		if from, ok := a.(*array.Float32); ok {
			result = mapValues(from, b, func(v float32) {
				half := arrowtype.ToFloat16(float64(v))
				if math.IsInf(float64(arrowtype.FromFloat16(half)), 0) != math.IsInf(float64(v), 0) {
					err = fmt.Errorf("%v is out of range for %s", v, to)
				}
				b.Append(half)
			})
			return result, err
		}
	case *array.Float32Builder:
		if from, ok := a.(*array.Float16); ok {
			return mapValues(from, b, func(v float16.Num) { b.Append(arrowtype.FromFloat16(v)) }), nil
		}
	case *array.Float64Builder:
		if from, ok := a.(*array.Int64); ok {
			result = mapValues(from, b, func(v int64) {
				f := float64(v)
				if f == 1<<63 || int64(f) != v {
					err = fmt.Errorf("cannot convert to %s: %d would be rounded", to, v)
				}
				b.Append(f)
			})
			return result, err
		}
	case *array.FixedSizeBinaryBuilder: // SQL returns fixed-size values as binary.
		if from, ok := a.(valueArray[[]byte]); ok && a.DataType().ID() != arrow.FIXED_SIZE_BINARY {
			size := to.(*arrow.FixedSizeBinaryType).ByteWidth
			result = mapValues(from, b, func(v []byte) {
				if len(v) == size {
					b.Append(v)
				} else {
					b.AppendNull()
					err = fmt.Errorf("a value of %d bytes is not of type %s", len(v), to)
				}
			})
			return result, err
		}
	case *array.TimestampBuilder:
		if from, ok := a.(*array.FixedSizeBinary); ok {
			result = mapValues(from, b, func(v []byte) {
				t, timeErr := int96Time(v, to.(*arrow.TimestampType))
				err = cmp.Or(err, timeErr)
				b.Append(t)
			})
			return result, err
		}
	case *array.Decimal32Builder:
		if from, ok := a.(*array.Decimal128); ok {
			return mapValues(from, b, func(v decimal128.Num) { b.Append(decimal.Decimal32(v.LowBits())) }), nil
		}
	case *array.Decimal64Builder:
		if from, ok := a.(*array.Decimal128); ok {
			return mapValues(from, b, func(v decimal128.Num) { b.Append(decimal.Decimal64(v.LowBits())) }), nil
		}
	case *array.Decimal128Builder:
		switch from := a.(type) {
		case *array.Decimal32:
			return mapValues(from, b, func(v decimal.Decimal32) { b.Append(decimal128.FromI64(int64(v))) }), nil
		case *array.Decimal64:
			return mapValues(from, b, func(v decimal.Decimal64) { b.Append(decimal128.FromI64(int64(v))) }), nil
		}
	}
	builder.Release()
	return nil, nil
}

// convertTexts copies strings or byte strings to another layout.
func convertTexts(a arrow.Array, to arrow.DataType) (arrow.Array, error) {
	size := int64(a.Data().SizeInBytes())
	if views, ok := a.(interface{ ValueLen(int) int }); ok { // In this layout, values can share bytes.
		size = 0
		for i := range a.Len() {
			size += int64(views.ValueLen(i))
		}
	}
	if size > math.MaxInt32 {
		return nil, fmt.Errorf("a batch has %d bytes of text, but the limit is 2 GiB: put smaller batches", size)
	}
	builder := array.NewBuilder(allocator, to)
	switch b := builder.(type) {
	case array.StringLikeBuilder:
		if from, ok := a.(array.StringLike); ok {
			return mapValues(from, b, b.Append), nil
		}
		if from, ok := a.(valueArray[[]byte]); ok { // Some writers store strings as bytes in files.
			texts := mapValues(from, builder, func(v []byte) { b.Append(string(v)) })
			return texts, CheckArray(texts)
		}
	case interface{ Append([]byte) }:
		if from, ok := a.(valueArray[[]byte]); ok {
			return mapValues(from, builder, b.Append), nil
		}
	}
	builder.Release()
	return nil, fmt.Errorf("cannot convert %s to %s", a.DataType(), to)
}
