package sorted

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// SQLKeyClass returns the name of a type's class. Keys can be compared between types of the same class. It returns an
// error if [SQLKeyAppender] does not support the type. The class of a dictionary or of runs is that of their values.
// DuckDB reads the null type as booleans.
func SQLKeyClass(t arrow.DataType) (class string, err error) {
	switch row := arrowtype.Of(t); row.Kind {
	case arrowtype.Dictionary, arrowtype.Runs, arrowtype.Extension:
		return SQLKeyClass(arrowtype.Inner(t))
	case arrowtype.Time, arrowtype.Timestamp, arrowtype.Duration:
		return t.String(), nil
	case arrowtype.Decimal:
		if row.Decimals != nil {
			return fmt.Sprintf("decimal of scale %d", t.(arrow.DecimalType).GetScale()), nil
		}
	case arrowtype.Null:
		return SQLKeyClass(arrow.FixedWidthTypes.Boolean)
	default:
		if class := sqlKeyClasses[row.Kind]; class != "" {
			return class, nil
		}
	}
	return "", errors.New("values of this type cannot be keys")
}

// sqlKeyClasses maps each kind whose types have a common class to that class.
var sqlKeyClasses = map[arrowtype.Kind]string{
	arrowtype.Bool: "boolean", arrowtype.Integer: "integer", arrowtype.Float: "float", arrowtype.Text: "text", arrowtype.Binary: "binary",
	arrowtype.UUID: "uuid", arrowtype.Date: "date",
}

// SQLKeyAppender returns a function that appends a key for a value of a, whose type must have a class and must not be a
// dictionary or runs. Values of one class have equal keys if DuckDB groups them together: null equals null, NaN equals
// NaN, and -0 equals 0. The key of a null is the byte 0; any other key is the byte 1 followed by the value. No key is a
// prefix of another key of its class.
func SQLKeyAppender(a arrow.Array) func(key []byte, row int) ([]byte, error) {
	appendValue := sqlValueAppender(a)
	return func(key []byte, row int) ([]byte, error) {
		switch {
		case a.IsNull(row) || a.DataType().ID() == arrow.NULL: // the null type has no bitmap
			return append(key, 0), nil
		case appendValue == nil:
			return nil, fmt.Errorf("values of type %s cannot be keys", a.DataType())
		}
		return appendValue(append(key, 1), row), nil
	}
}

func sqlValueAppender(a arrow.Array) func(key []byte, row int) []byte {
	a = arrowtype.Storage(a)
	switch t := arrowtype.Of(a.DataType()); {
	case t.SignedKey != nil:
		return t.SignedKey(inSQLUnit(a))
	case t.Ints != nil: // booleans
		value := t.Ints(a)
		return func(key []byte, row int) []byte { return extsort.AppendUint(append(key, 1), uint64(value(row))) }
	case t.Floats != nil:
		value := t.Floats(a)
		return func(key []byte, row int) []byte { return extsort.AppendFloat(key, value(row)) }
	case t.Decimals != nil:
		value := t.Decimals(a)
		return func(key []byte, row int) []byte {
			v := value(row)
			return extsort.AppendUint(extsort.AppendUint(key, uint64(v.HighBits())), v.LowBits())
		}
	case t.Kind == arrowtype.Text:
		return textAppender(a.(valueArray[string]))
	case t.Kind == arrowtype.Binary:
		return textAppender(a.(valueArray[[]byte]))
	}
	return nil
}

// inSQLUnit returns an array in the unit of DuckDB's type: its dates are days, and its timestamps with a time zone have
// microseconds.
func inSQLUnit(a arrow.Array) arrow.Array {
	unit := int64(1)
	t, isTimestamp := a.DataType().(*arrow.TimestampType)
	switch {
	case a.DataType().ID() == arrow.DATE64:
		unit = 24 * 60 * 60 * 1000
	case isTimestamp && t.Unit == arrow.Nanosecond && t.TimeZone != "":
		unit = 1000
	default:
		return a
	}
	b := array.NewInt64Builder(memory.DefaultAllocator)
	for _, v := range arrow.GetValues[int64](a.Data(), 1) {
		b.Append(v / unit)
	}
	return b.NewArray()
}

func textAppender[T string | []byte](a valueArray[T]) func(key []byte, row int) []byte {
	return func(key []byte, row int) []byte {
		text := a.Value(row)
		return append(binary.AppendUvarint(key, uint64(len(text))), text...)
	}
}
