package sorted

import (
	"encoding/binary"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// The functions below differ in which of a column's values they treat as equal: OrderKeyAppender follows the sort
// order, ExactKeyAppender the stored bits, and TextKeyAppender the texts.

// KeysInOrder reports whether OrderKeyAppender's keys for a stored type sort like the values.
func KeysInOrder(t arrow.DataType) bool {
	row := arrowtype.Of(t)
	switch row.Kind {
	case arrowtype.Integer, arrowtype.Float, arrowtype.Text, arrowtype.Date, arrowtype.Time, arrowtype.Timestamp:
		return row.IsSorted && (row.Stored == nil || row.Stored.ID() == t.ID())
	}
	return false
}

// OrderKeyAppender returns a function that appends a key for a value of a, which must have a stored type. The value must
// not be null. Values have equal keys if and only if sorting treats them as equal: -0 equals 0, and NaN equals NaN.
func OrderKeyAppender(a arrow.Array) func(dst []byte, row int) []byte {
	switch t := arrowtype.Of(a.DataType()); {
	case t.OrderKey != nil:
		return t.OrderKey(a)
	case t.Floats != nil:
		value := t.Floats(a)
		return func(dst []byte, row int) []byte { return extsort.AppendFloat(dst, value(row)) }
	case t.Kind == arrowtype.Text:
		texts := a.(valueArray[string])
		return func(dst []byte, row int) []byte { return extsort.AppendText(dst, texts.Value(row)) }
	case t.Kind == arrowtype.Binary:
		values := a.(valueArray[[]byte])
		return func(dst []byte, row int) []byte { return extsort.AppendText(dst, values.Value(row)) }
	}
	return func(dst []byte, row int) []byte { return extsort.AppendText(dst, a.ValueStr(row)) }
}

// RowKeyAppender is like OrderKeyAppender, but for rows of several columns. If nullable is true, values can be null,
// and nulls are equal.
func RowKeyAppender(columns []arrow.Array, nullable bool) func(dst []byte, row int) []byte {
	appenders := make([]func(dst []byte, row int) []byte, len(columns))
	for i, c := range columns {
		appenders[i] = OrderKeyAppender(c)
	}
	return func(dst []byte, row int) []byte {
		for i, appendKey := range appenders {
			if nullable {
				if columns[i].IsNull(row) {
					dst = append(dst, 0)
					continue
				}
				dst = append(dst, 1)
			}
			dst = appendKey(dst, row)
		}
		return dst
	}
}

// ExactKeyAppender returns a function that appends an encoding of a value of a, which must have a stored type. Two values
// of the same type have equal encodings if and only if they are both null, both NaN, or stored with the same bits: -0
// differs from 0. Nested values are equal if their elements are, and maps if their lists of entries are. No encoding is a
// prefix of a different one. Once dst is longer than limit, the function omits further elements of a list.
func ExactKeyAppender(a arrow.Array, limit int) func(dst []byte, row int) []byte {
	appendValue := exactValueAppender(arrowtype.Storage(a), limit)
	return func(dst []byte, row int) []byte {
		if a.IsNull(row) {
			return append(dst, 0)
		}
		return appendValue(append(dst, 1), row)
	}
}

func exactValueAppender(a arrow.Array, limit int) func(dst []byte, row int) []byte {
	t := arrowtype.Of(a.DataType())
	var children []func(dst []byte, row int) []byte
	for _, child := range arrowtype.Children(a) {
		children = append(children, ExactKeyAppender(child, limit))
	}
	switch {
	case t.Kind == arrowtype.Bool:
		value := t.Ints(a)
		return func(dst []byte, row int) []byte { return append(dst, byte(value(row))) }
	case t.ExactKey != nil:
		return t.ExactKey(a)
	case t.Kind == arrowtype.Decimal && t.IsSorted: // all stored decimals have 128 bits
		values := arrow.GetValues[decimal128.Num](a.Data(), 1)
		return func(dst []byte, row int) []byte {
			n := values[row]
			return extsort.AppendUint(extsort.AppendUint(dst, uint64(n.HighBits())^1<<63), n.LowBits())
		}
	case t.Kind == arrowtype.Struct:
		return func(dst []byte, row int) []byte {
			for _, appendField := range children {
				dst = appendField(dst, row)
			}
			return dst
		}
	case children != nil: // a list or a map
		list := a.(array.ListLike)
		return func(dst []byte, row int) []byte {
			start, end := list.ValueOffsets(row)
			dst = extsort.AppendUint(dst, uint64(end-start))
			for ; start < end && len(dst) <= limit; start++ {
				dst = children[0](dst, int(start))
			}
			return dst
		}
	}
	return OrderKeyAppender(a)
}

// TextKeyAppender returns a function that appends a key for a value in a, which may have any type. appendText appends a
// value's text, or reports that the value is null. Values have equal keys if and only if their texts are equal or both
// are null: -0 differs from 0. The key of a null is the byte 0. Other keys are the byte 1 and the value's bits, or the
// length and bytes of its text.
func TextKeyAppender(a arrow.Array, appendText func(out []byte, row int) (_ []byte, isNull bool, err error)) func(key []byte, row int) ([]byte, error) {
	switch t := arrowtype.Of(a.DataType()); t.Kind {
	case arrowtype.Integer, arrowtype.Decimal, arrowtype.Date, arrowtype.Time, arrowtype.Timestamp, arrowtype.Duration, arrowtype.Interval:
		if a.NullN() == a.Len() {
			break
		}
		width := a.DataType().(arrow.FixedWidthDataType).Bytes()
		values := a.Data().Buffers()[1].Bytes()[a.Data().Offset()*width:]
		return func(key []byte, row int) ([]byte, error) {
			if a.IsNull(row) {
				return append(key, 0), nil
			}
			return append(append(key, 1), values[row*width:(row+1)*width]...), nil
		}
	case arrowtype.Text:
		texts, ok := a.(*array.String)
		if !ok {
			break
		}
		return func(key []byte, row int) ([]byte, error) {
			if texts.IsNull(row) {
				return append(key, 0), nil
			}
			text := texts.Value(row)
			return append(binary.AppendUvarint(append(key, 1), uint64(len(text))), text...), nil
		}
	}
	var text []byte
	return func(key []byte, row int) (_ []byte, err error) {
		var isNull bool
		text, isNull, err = appendText(text[:0], row)
		if isNull || err != nil {
			return append(key, 0), err
		}
		return append(binary.AppendUvarint(append(key, 1), uint64(len(text))), text...), nil
	}
}
