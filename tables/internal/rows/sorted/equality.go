package sorted

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/engine/extsort"
)

// AppendExact appends an encoding of value i of a, which must have a stored type. Two values of the same type have
// equal encodings if and only if they are both null, both NaN, or stored with the same bits: -0 differs from 0. Nested
// values are equal if their elements are, and maps if their lists of entries are. No encoding is a prefix of a
// different one. AppendExact leaves out further elements of a list once dst is longer than limit.
func AppendExact(dst []byte, a arrow.Array, i, limit int) []byte {
	if a.IsNull(i) {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	switch a := a.(type) {
	case array.ExtensionArray:
		return AppendExact(dst, a.Storage(), i, limit)
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
			dst = AppendExact(dst, a.Field(field), i, limit)
		}
		return dst
	case array.ListLike:
		start, end := a.ValueOffsets(i)
		dst = extsort.AppendUint(dst, uint64(end-start))
		for ; start < end && len(dst) <= limit; start++ {
			dst = AppendExact(dst, a.ListValues(), int(start), limit)
		}
		return dst
	}
	return AppendKey(dst, a, i)
}

// appendExactFloat is like extsort.AppendFloat, but -0 comes before 0.
func appendExactFloat(dst []byte, x float64) []byte {
	if x == 0 && math.Signbit(x) {
		return extsort.AppendUint(dst, 1<<63-1)
	}
	return extsort.AppendFloat(dst, x)
}
