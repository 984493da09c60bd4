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
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"

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

// convert converts a batch to a schema. indicesOf returns the indices of the batch's columns for one of the schema's
// columns; convert uses the first, or nulls if there are none.
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
	from, t := arrowtype.Of(a.DataType()), arrowtype.Of(to)
	switch from.Kind {
	case arrowtype.Null:
		return array.MakeArrayOfNull(allocator, to, a.Len()), nil
	case arrowtype.Dictionary, arrowtype.Runs:
		values, index := arrowtype.Values(a)
		indices := make([]int, a.Len())
		for i := range indices {
			indices[i] = index(i)
		}
		return expand(values, indices, to)
	case arrowtype.UUID:
		if to.ID() == arrow.STRING { // SQL returns UUIDs as strings
			b := array.NewStringBuilder(allocator)
			return mapValues(a, b, func(row int) { b.Append(a.ValueStr(row)) }), nil
		}
		return ConvertArray(arrowtype.Storage(a), to)
	case arrowtype.Extension:
		return ConvertArray(arrowtype.Storage(a), to)
	}
	switch t.Kind {
	case arrowtype.Null:
		return array.NewNull(a.Len()), nil
	case arrowtype.UUID, arrowtype.Extension:
		if a.DataType().ID() == arrow.STRING && t.Kind == arrowtype.UUID {
			return parseUUIDs(a)
		}
		storage, err := ConvertArray(a, arrowtype.Inner(to))
		if err != nil {
			return nil, err
		}
		defer storage.Release()
		return array.NewExtensionArrayWithStorage(to.(arrow.ExtensionType), storage), nil
	case arrowtype.Dictionary:
		return encodeDictionary(a, to.(*arrow.DictionaryType))
	case arrowtype.Struct:
		if from, ok := a.(*array.Struct); ok {
			return convertStruct(from, to.(*arrow.StructType))
		}
	case arrowtype.List, arrowtype.Map:
		if from, ok := a.(array.ListLike); ok && t.WithFields != nil {
			return convertList(from, to.(arrow.ListLikeType))
		}
	case arrowtype.Text, arrowtype.Binary:
		if to.ID() != arrow.FIXED_SIZE_BINARY {
			return convertTexts(a, t, to)
		}
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
		case isDecimal && from.Decimals == nil:
			return nil, fmt.Errorf("cannot convert %s to %s", a.DataType(), to)
		default: // If a result needed more bits, the library would panic in its own goroutine, which would end the process.
			wide, err := ConvertArray(a, &arrow.Decimal256Type{Precision: 76, Scale: d.Scale})
			if err != nil {
				return nil, err
			}
			defer wide.Release()
			a = wide
		}
	}
	result, err := compute.CastArray(context.Background(), a, compute.SafeCastOptions(to))
	finer, hasUnit := a.DataType().(arrow.TemporalWithUnit)
	if coarser, ok := to.(arrow.TemporalWithUnit); err != nil && hasUnit && ok && finer.TimeUnit() > coarser.TimeUnit() {
		return nil, fmt.Errorf("a value of type %s has digits that are too small for %s: round the values, or put them into a new table with a finer unit", finer, to)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot convert to %s: %w", to, err)
	}
	return result, nil
}

func parseUUIDs(a arrow.Array) (_ arrow.Array, err error) {
	b := extensions.NewUUIDBuilder(allocator)
	result := mapValues(a, b, func(row int) { err = cmp.Or(b.AppendValueFromString(a.ValueStr(row)), err) })
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
		switch from := arrowtype.KindOf(a); {
		case b.ID() == arrow.INT64:
			time, isTime := a.(*arrow.Time64Type)
			return from == arrowtype.Duration || isTime && time.Unit == arrow.Nanosecond
		case from == arrowtype.Timestamp && a.ID() == b.ID():
			return a.(*arrow.TimestampType).Unit == b.(*arrow.TimestampType).Unit
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
	if arrowtype.Inner(field.DataType()) != nil {
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
	id := a.DataType().ID()
	if _, isList := a.(array.ListLike); isList && id != arrow.FIXED_SIZE_LIST && hasValueUnderNull(a, a) {
		return true
	}
	for _, child := range arrowtype.Children(a) {
		if id == arrow.STRUCT && hasValueUnderNull(child, a) || hasHiddenValues(child) {
			return true
		}
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
// undefined and may be invalid in another type.
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
	entries, isStruct := child.(*array.Struct)
	switch {
	case offsets == nil:
		buffers = buffers[:1]
	case to.ID() == arrow.MAP && isStruct && entries.Field(0).NullN() > 0:
		return nil, errors.New("a map has a null key")
	case to.ID() != arrow.LARGE_LIST:
		buffers[1] = take.Offsets32(offsets)
	}
	return take.NewArray(to, from.Len(), buffers, []arrow.ArrayData{child.Data()}, from.NullN(), 0), nil
}

// visibleValues returns the values in lists and the lists' offsets into them. It omits values under nulls, because
// Parquet rejects them.
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
	if arrowtype.Of(a.DataType()).WithFields == nil { // a list view, whose values can have any order
		hasHidden = true
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

// mapValues builds an array by calling add for each row of a that is not null.
func mapValues(a arrow.Array, b array.Builder, add func(row int)) arrow.Array {
	defer b.Release()
	b.Reserve(a.Len())
	for i := range a.Len() {
		if a.IsNull(i) {
			b.AppendNull()
		} else {
			add(i)
		}
	}
	return b.NewArray()
}

// convertEach converts an array value by value. It handles the types that Arrow's library cannot convert, or converts
// incorrectly. For other types, it returns nil.
func convertEach(a arrow.Array, to arrow.DataType) (result arrow.Array, err error) {
	from, t := arrowtype.Of(a.DataType()), arrowtype.Of(to)
	bytes, isBinary := a.(valueArray[[]byte])
	b := array.NewBuilder(allocator, to)
	var add func(row int)
	switch {
	case from.Floats != nil && t.Floats != nil && (a.DataType().ID() == arrow.FLOAT16 || to.ID() == arrow.FLOAT16 && a.DataType().ID() == arrow.FLOAT32):
		value, appendFloat := from.Floats(a), t.FloatAppender(b)
		add = func(row int) {
			v := value(row)
			if to.ID() == arrow.FLOAT16 && math.IsInf(float64(arrowtype.FromFloat16(arrowtype.ToFloat16(v))), 0) != math.IsInf(v, 0) {
				err = fmt.Errorf("%v is out of range for %s", v, to)
			}
			appendFloat(v)
		}
	case a.DataType().ID() == arrow.INT64 && to.ID() == arrow.FLOAT64:
		value, appendFloat := from.Ints(a), t.FloatAppender(b)
		add = func(row int) {
			f := float64(value(row))
			if f == 1<<63 || int64(f) != value(row) {
				err = fmt.Errorf("cannot convert to %s: %d would be rounded", to, value(row))
			}
			appendFloat(f)
		}
	case to.ID() == arrow.FIXED_SIZE_BINARY && isBinary && a.DataType().ID() != arrow.FIXED_SIZE_BINARY: // SQL returns fixed-size values as binary.
		size, appendBytes := to.(*arrow.FixedSizeBinaryType).ByteWidth, t.BytesAppender(b)
		add = func(row int) {
			if v := bytes.Value(row); len(v) == size {
				appendBytes(v)
			} else {
				b.AppendNull()
				err = fmt.Errorf("a value of %d bytes is not of type %s", len(v), to)
			}
		}
	case t.Kind == arrowtype.Timestamp && a.DataType().ID() == arrow.FIXED_SIZE_BINARY:
		appendInt := t.IntAppender(b)
		add = func(row int) {
			v, timeErr := int96Time(bytes.Value(row), to.(*arrow.TimestampType))
			err = cmp.Or(err, timeErr)
			appendInt(int64(v))
		}
	case from.Decimals != nil && t.Decimals != nil && a.DataType().ID() != to.ID():
		value, appendDecimal := from.Decimals(a), t.DecimalAppender(b)
		add = func(row int) { appendDecimal(value(row)) }
	default:
		b.Release()
		return nil, nil
	}
	return mapValues(a, b, add), err
}

// convertTexts copies strings or byte strings to the layout of t.
func convertTexts(a arrow.Array, t *arrowtype.Row, to arrow.DataType) (arrow.Array, error) {
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
	b := array.NewBuilder(allocator, to)
	texts, isText := a.(array.StringLike)
	bytes, isBinary := a.(valueArray[[]byte])
	switch {
	case isText && t.Kind == arrowtype.Text:
		add := b.(array.StringLikeBuilder)
		return mapValues(a, b, func(row int) { add.Append(texts.Value(row)) }), nil
	case isBinary: // Some writers store strings as bytes in files.
		appendBytes := t.BytesAppender(b)
		result := mapValues(a, b, func(row int) { appendBytes(bytes.Value(row)) })
		if t.Kind == arrowtype.Text {
			return result, CheckArray(result)
		}
		return result, nil
	}
	b.Release()
	return nil, fmt.Errorf("cannot convert %s to %s", a.DataType(), to)
}

type valueArray[V any] interface {
	arrow.Array
	Value(int) V
}
