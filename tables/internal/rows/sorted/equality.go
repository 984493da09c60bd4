package sorted

import (
	"encoding/binary"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/engine/extsort"
)

// The functions below differ in which of a column's values they treat as equal: AppendOrderKey follows the sort order,
// AppendExactKey the stored bits, and TextKeyAppender the texts.

// KeysInOrder reports whether AppendOrderKey's keys for a stored type sort like the values.
func KeysInOrder(t arrow.DataType) bool {
	switch t.ID() {
	case arrow.INT32, arrow.INT64, arrow.STRING, arrow.DATE32, arrow.TIME64, arrow.TIMESTAMP, arrow.FLOAT32, arrow.FLOAT64:
		return true
	}
	return false
}

// AppendOrderKey appends a key for value i of a, which must have a stored type and not be null. Values have equal keys
// if and only if sorting treats them as equal: -0 equals 0, and NaN equals NaN.
func AppendOrderKey(dst []byte, a arrow.Array, i int) []byte {
	appendInt := func(v int64) []byte { return extsort.AppendUint(dst, uint64(v)^1<<63) }
	switch a := a.(type) {
	case *array.Int32:
		return appendInt(int64(a.Value(i)))
	case *array.Int64:
		return appendInt(a.Value(i))
	case *array.Date32:
		return appendInt(int64(a.Value(i)))
	case *array.Time64:
		return appendInt(int64(a.Value(i)))
	case *array.Timestamp:
		return appendInt(int64(a.Value(i)))
	case *array.Float32:
		return extsort.AppendFloat(dst, float64(a.Value(i)))
	case *array.Float64:
		return extsort.AppendFloat(dst, a.Value(i))
	case *array.String:
		return extsort.AppendText(dst, a.Value(i))
	case *array.Binary:
		return extsort.AppendText(dst, a.Value(i))
	}
	return extsort.AppendText(dst, a.ValueStr(i))
}

// AppendExactKey appends an encoding of value i of a, which must have a stored type. Two values of the same type have
// equal encodings if and only if they are both null, both NaN, or stored with the same bits: -0 differs from 0. Nested
// values are equal if their elements are, and maps if their lists of entries are. No encoding is a prefix of a
// different one. Once dst is longer than limit, AppendExactKey omits further elements of a list.
func AppendExactKey(dst []byte, a arrow.Array, i, limit int) []byte {
	if a.IsNull(i) {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	switch a := a.(type) {
	case array.ExtensionArray:
		return AppendExactKey(dst, a.Storage(), i, limit)
	case *array.Boolean:
		if a.Value(i) {
			return append(dst, 1)
		}
		return append(dst, 0)
	case *array.Float32:
		return appendExactFloat(dst, float64(a.Value(i)))
	case *array.Float64:
		return appendExactFloat(dst, a.Value(i))
	case *array.Decimal128:
		n := a.Value(i)
		return extsort.AppendUint(extsort.AppendUint(dst, uint64(n.HighBits())^1<<63), n.LowBits())
	case *array.FixedSizeBinary:
		return extsort.AppendText(dst, a.Value(i))
	case *array.Struct:
		for field := range a.NumField() {
			dst = AppendExactKey(dst, a.Field(field), i, limit)
		}
		return dst
	case array.ListLike:
		start, end := a.ValueOffsets(i)
		dst = extsort.AppendUint(dst, uint64(end-start))
		for ; start < end && len(dst) <= limit; start++ {
			dst = AppendExactKey(dst, a.ListValues(), int(start), limit)
		}
		return dst
	}
	return AppendOrderKey(dst, a, i)
}

// appendExactFloat is like extsort.AppendFloat, but -0 comes before 0.
func appendExactFloat(dst []byte, x float64) []byte {
	if x == 0 && math.Signbit(x) {
		return extsort.AppendUint(dst, 1<<63-1)
	}
	return extsort.AppendFloat(dst, x)
}

// TextKeyAppender returns a function that appends a key for a value in a, which may have any type. appendText appends a
// value's text, or reports that the value is null. Values have equal keys if and only if their texts are equal or both
// are null: -0 differs from 0. The key of a null is a zero byte; any other key is a one and the text.
func TextKeyAppender(a arrow.Array, appendText func(out []byte, a arrow.Array, i int) (_ []byte, isNull bool, err error)) func(key []byte, row int) ([]byte, error) {
	t := a.DataType()
	fixed, isFixed := t.(arrow.FixedWidthDataType)
	switch {
	case isFixed && (arrow.IsDecimal(t.ID()) || arrow.IsPrimitive(t.ID()) && t.ID() != arrow.BOOL && !arrow.IsFloating(t.ID())) && a.NullN() < a.Len():
		width := fixed.BitWidth() / 8
		values := a.Data().Buffers()[1].Bytes()[a.Data().Offset()*width:]
		return func(key []byte, row int) ([]byte, error) {
			if a.IsNull(row) {
				return append(key, 0), nil
			}
			return append(append(key, 1), values[row*width:(row+1)*width]...), nil
		}
	case t.ID() == arrow.STRING:
		texts := a.(*array.String)
		return func(key []byte, row int) ([]byte, error) {
			if a.IsNull(row) {
				return append(key, 0), nil
			}
			text := texts.Value(row)
			return append(binary.AppendUvarint(append(key, 1), uint64(len(text))), text...), nil
		}
	}
	var text []byte
	return func(key []byte, row int) (_ []byte, err error) {
		var isNull bool
		text, isNull, err = appendText(text[:0], a, row)
		if isNull || err != nil {
			return append(key, 0), err
		}
		return append(binary.AppendUvarint(append(key, 1), uint64(len(text))), text...), nil
	}
}
