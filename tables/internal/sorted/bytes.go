package sorted

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/extsort"
)

// KeysInOrder reports whether the keys of values of a stored type have their order.
func KeysInOrder(t arrow.DataType) bool {
	switch t.ID() {
	case arrow.INT32, arrow.INT64, arrow.STRING, arrow.DATE32, arrow.TIME64, arrow.TIMESTAMP, arrow.FLOAT32, arrow.FLOAT64:
		return true
	}
	return false
}

// AppendKey appends a value of a stored type, so that equal bytes are equal values.
func AppendKey(dst []byte, a arrow.Array, i int) []byte {
	whole := func(v int64) []byte { return extsort.AppendUint(dst, uint64(v)^1<<63) }
	switch a := a.(type) {
	case *array.Int32:
		return whole(int64(a.Value(i)))
	case *array.Int64:
		return whole(a.Value(i))
	case *array.Date32:
		return whole(int64(a.Value(i)))
	case *array.Time64:
		return whole(int64(a.Value(i)))
	case *array.Timestamp:
		return whole(int64(a.Value(i)))
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
