package sorted

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/extensions"

	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// SQLKeyClass returns the class of a type: values of all types of a class have comparable keys. It returns an error if
// [SQLKeyAppender] does not support the type. The class of a dictionary or of runs is that of their values. DuckDB reads
// the null type as booleans.
func SQLKeyClass(t arrow.DataType) (class string, err error) {
	switch t := t.(type) {
	case *arrow.DictionaryType:
		return SQLKeyClass(t.ValueType)
	case *arrow.RunEndEncodedType:
		return SQLKeyClass(t.Encoded())
	case *extensions.UUIDType:
		return "uuid", nil
	case arrow.ExtensionType:
		return SQLKeyClass(t.StorageType())
	case *arrow.TimestampType, *arrow.Time32Type, *arrow.Time64Type, *arrow.DurationType:
		return t.String(), nil
	case *arrow.Decimal32Type, *arrow.Decimal64Type, *arrow.Decimal128Type:
		return fmt.Sprintf("decimal of scale %d", t.(arrow.DecimalType).GetScale()), nil
	}
	switch id := t.ID(); {
	case arrow.IsInteger(id):
		return "integer", nil
	case arrow.IsFloating(id):
		return "float", nil
	case id == arrow.STRING || id == arrow.LARGE_STRING || id == arrow.STRING_VIEW:
		return "text", nil
	case arrow.IsBaseBinary(id) || id == arrow.BINARY_VIEW || id == arrow.FIXED_SIZE_BINARY:
		return "binary", nil
	case id == arrow.BOOL || id == arrow.NULL:
		return "boolean", nil
	case id == arrow.DATE32 || id == arrow.DATE64:
		return "date", nil
	}
	return "", errors.New("values of this type cannot be keys")
}

// SQLKeyAppender returns a function that appends a key for a value of a, whose type must have a class and must not be a
// dictionary or runs. Values of one class have equal keys if DuckDB groups them together: null equals null, NaN equals NaN, and
// -0 equals 0. A key consists of a zero byte for a null, and otherwise of a one and the value. No key is a prefix of
// another key of its class.
func SQLKeyAppender(a arrow.Array) func(key []byte, row int) ([]byte, error) {
	appendValue := sqlValueAppender(a)
	return func(key []byte, row int) ([]byte, error) {
		switch {
		case a.IsNull(row) || a.DataType().ID() == arrow.NULL: // without a bitmap
			return append(key, 0), nil
		case appendValue == nil:
			return nil, fmt.Errorf("values of type %s cannot be keys", a.DataType())
		}
		return appendValue(append(key, 1), row), nil
	}
}

func sqlValueAppender(a arrow.Array) func(key []byte, row int) []byte {
	switch a := a.(type) {
	case array.ExtensionArray:
		return sqlValueAppender(a.Storage())
	case *array.Time32:
		return integerAppender(a.Value)
	case *array.Time64:
		return integerAppender(a.Value)
	case *array.Duration:
		return integerAppender(a.Value)
	case *array.Int8:
		return integerAppender(a.Value)
	case *array.Int16:
		return integerAppender(a.Value)
	case *array.Int32:
		return integerAppender(a.Value)
	case *array.Int64:
		return integerAppender(a.Value)
	case *array.Uint8:
		return integerAppender(a.Value)
	case *array.Uint16:
		return integerAppender(a.Value)
	case *array.Uint32:
		return integerAppender(a.Value)
	case *array.Uint64:
		return integerAppender(a.Value)
	case *array.Date32:
		return integerAppender(a.Value)
	case *array.Date64:
		const day = 24 * 60 * 60 * 1000 // milliseconds
		return integerAppender(func(row int) int64 { return int64(a.Value(row)) / day })
	case *array.Timestamp:
		t := a.DataType().(*arrow.TimestampType)
		if t.Unit == arrow.Nanosecond && t.TimeZone != "" { // DuckDB's type with a time zone has microseconds
			return integerAppender(func(row int) int64 { return int64(a.Value(row)) / 1000 })
		}
		return integerAppender(a.Value)
	case *array.Boolean:
		return integerAppender(func(row int) uint8 {
			if a.Value(row) {
				return 1
			}
			return 0
		})
	case *array.Float16:
		return func(key []byte, row int) []byte {
			return extsort.AppendFloat(key, float64(schema.FromFloat16(a.Value(row))))
		}
	case *array.Float32:
		return func(key []byte, row int) []byte { return extsort.AppendFloat(key, float64(a.Value(row))) }
	case *array.Float64:
		return func(key []byte, row int) []byte { return extsort.AppendFloat(key, a.Value(row)) }
	case *array.Decimal32:
		return decimalAppender(func(row int) decimal128.Num { return decimal128.FromI64(int64(a.Value(row))) })
	case *array.Decimal64:
		return decimalAppender(func(row int) decimal128.Num { return decimal128.FromI64(int64(a.Value(row))) })
	case *array.Decimal128:
		return decimalAppender(a.Value)
	case *array.String, *array.LargeString, *array.StringView:
		return textAppender(a.(valueArray[string]))
	case *array.Binary, *array.LargeBinary, *array.BinaryView, *array.FixedSizeBinary:
		return textAppender(a.(valueArray[[]byte]))
	}
	return nil
}

// integerAppender separates the sign, so that all signed and unsigned integers are comparable.
func integerAppender[T ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64](value func(row int) T) func(key []byte, row int) []byte {
	return func(key []byte, row int) []byte {
		v, sign := value(row), byte(1)
		if v < 0 {
			sign = 0
		}
		return extsort.AppendUint(append(key, sign), uint64(v))
	}
}

func decimalAppender(value func(row int) decimal128.Num) func(key []byte, row int) []byte {
	return func(key []byte, row int) []byte {
		v := value(row)
		return extsort.AppendUint(extsort.AppendUint(key, uint64(v.HighBits())), v.LowBits())
	}
}

func textAppender[T string | []byte](a valueArray[T]) func(key []byte, row int) []byte {
	return func(key []byte, row int) []byte {
		text := a.Value(row)
		return append(binary.AppendUvarint(key, uint64(len(text))), text...)
	}
}
