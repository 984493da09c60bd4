package filter

import (
	"cmp"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// The three values of logic. And is the least of its parts, or the greatest.
const (
	isFalse byte = iota
	isNull
	isTrue
)

// test is a comparison of a column with values.
type test interface {
	// holds returns what tells of a row that is not null.
	holds(arrow.Array) func(row int) bool
	iceberg(n *boundNode, negated bool) expression
}

// always is a test with one answer for all that is not null.
type always bool

func (a always) holds(arrow.Array) func(int) bool { return func(int) bool { return bool(a) } }

// leaf is a test by values of type T.
type leaf[T any] struct {
	op      operator
	values  []T // sorted
	compare func(a, b T) int
	read    func(arrow.Array) func(int) T
	literal func(T) literalValue // nil if Iceberg has none
	floats  bool                 // there may be NaNs
}

func (f *leaf[T]) holds(a arrow.Array) func(int) bool {
	read, compare, v := f.read(a), f.compare, f.values[0]
	switch f.op {
	case opEq:
		return func(i int) bool { return compare(read(i), v) == 0 }
	case opNe:
		return func(i int) bool { return compare(read(i), v) != 0 }
	case opLt:
		return func(i int) bool { return compare(read(i), v) == -1 }
	case opLe:
		return func(i int) bool { return compare(read(i), v) <= 0 }
	case opGt:
		return func(i int) bool { return compare(read(i), v) == 1 }
	case opGe:
		return func(i int) bool { c := compare(read(i), v); return c == 0 || c == 1 }
	}
	return func(i int) bool {
		_, found := slices.BinarySearchFunc(f.values, read(i), compare)
		return found == (f.op == opIn)
	}
}

// eval returns a value for each row.
func (n *boundNode) eval(batch arrow.RecordBatch) []byte {
	switch n.op {
	case opNot:
		out := n.parts[0].eval(batch)
		for i, v := range out {
			out[i] = isTrue - v
		}
		return out
	case opAnd, opOr:
		out := n.parts[0].eval(batch)
		for _, part := range n.parts[1:] {
			for i, v := range part.eval(batch) {
				if n.op == opAnd {
					out[i] = min(out[i], v)
				} else {
					out[i] = max(out[i], v)
				}
			}
		}
		return out
	}
	out := make([]byte, batch.NumRows())
	column := batch.Column(n.column)
	null := nulls(column)
	if n.op == opNull || n.op == opNotNull {
		for i := range out {
			if null(i) == (n.op == opNull) {
				out[i] = isTrue
			}
		}
		return out
	}
	holds := n.test.holds(column)
	for i := range out {
		switch {
		case null(i):
			out[i] = isNull
		case holds(i):
			out[i] = isTrue
		}
	}
	return out
}

// nulls tells which rows are null: of a dictionary also those whose value is.
func nulls(a arrow.Array) func(int) bool {
	d, ok := a.(*array.Dictionary)
	if !ok || d.Dictionary().NullN() == 0 {
		return a.IsNull
	}
	return func(i int) bool { return d.IsNull(i) || d.Dictionary().IsNull(d.GetValueIndex(i)) }
}

func compareOrdered[T cmp.Ordered](a, b T) int { return cmp.Compare(a, b) }

// values reads what an array of numbers holds.
func values[V int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | float32 | arrow.Date32 | arrow.Date64 | arrow.Timestamp | arrow.Time32 | arrow.Time64 | arrow.Duration, T int64 | float64](a interface{ Value(int) V }) func(int) T {
	return func(i int) T { return T(a.Value(i)) }
}

// unpacked reads an array by its storage, or its dictionary.
func unpacked[T any](a arrow.Array, read func(arrow.Array) func(int) T) func(int) T {
	switch a := a.(type) {
	case *array.Dictionary:
		of := read(a.Dictionary())
		return func(i int) T { return of(a.GetValueIndex(i)) }
	case array.ExtensionArray:
		return read(a.Storage())
	}
	panic("filter: an array of another type than its schema says: " + a.DataType().String())
}

func readInt(a arrow.Array) func(int) int64 {
	switch a := a.(type) {
	case *array.Boolean:
		return func(i int) int64 {
			if a.Value(i) {
				return 1
			}
			return 0
		}
	case *array.Int8:
		return values[int8, int64](a)
	case *array.Int16:
		return values[int16, int64](a)
	case *array.Int32:
		return values[int32, int64](a)
	case *array.Int64:
		return a.Value
	case *array.Uint8:
		return values[uint8, int64](a)
	case *array.Uint16:
		return values[uint16, int64](a)
	case *array.Uint32:
		return values[uint32, int64](a)
	case *array.Date32:
		return values[arrow.Date32, int64](a)
	case *array.Date64:
		return values[arrow.Date64, int64](a)
	case *array.Timestamp:
		return values[arrow.Timestamp, int64](a)
	case *array.Duration:
		return values[arrow.Duration, int64](a)
	case *array.Time32:
		return values[arrow.Time32, int64](a)
	case *array.Time64:
		return values[arrow.Time64, int64](a)
	}
	return unpacked(a, readInt)
}

func readUint64(a arrow.Array) func(int) uint64 {
	if a, ok := a.(*array.Uint64); ok {
		return a.Value
	}
	return unpacked(a, readUint64)
}

func readFloat(a arrow.Array) func(int) float64 {
	switch a := a.(type) {
	case *array.Float64:
		return a.Value
	case *array.Float32:
		return values[float32, float64](a)
	case *array.Float16:
		return func(i int) float64 { return float64(a.Value(i).Float32()) }
	}
	return unpacked(a, readFloat)
}

func readDecimal(a arrow.Array) func(int) decimal128.Num {
	switch a := a.(type) {
	case *array.Decimal128:
		return a.Value
	case *array.Decimal64:
		return func(i int) decimal128.Num { return decimal128.FromI64(int64(a.Value(i))) }
	case *array.Decimal32:
		return func(i int) decimal128.Num { return decimal128.FromI64(int64(a.Value(i))) }
	}
	return unpacked(a, readDecimal)
}

func readText(a arrow.Array) func(int) string {
	switch a := a.(type) {
	case array.StringLike:
		return a.Value
	case interface{ ValueString(int) string }:
		return a.ValueString
	}
	return unpacked(a, readText)
}
