package filter

import (
	"math"
	"math/big"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// compared reports whether the values of two types are compared with each other.
func compared(a, b arrow.DataType) bool {
	number := func(t arrow.DataType) bool {
		return arrow.IsInteger(t.ID()) || arrow.IsFloating(t.ID()) || arrow.IsDecimal(t.ID())
	}
	return a != nil && b != nil && (arrow.TypeEqual(a, b) || number(a) && number(b))
}

// compareColumns compares two columns, row by row, by what their values are: none is
// rounded to the other's type.
func (n *boundNode) compareColumns(out []outcomes, a, b arrow.Array) {
	is := after[n.op]
	fill := func(order func(i int) int) {
		for i := range out {
			if a.IsValid(i) && b.IsValid(i) {
				out[i] = is[order(i)]
			}
		}
	}
	switch x := a.(type) {
	case *array.Boolean:
		y := b.(*array.Boolean)
		fill(func(i int) int { return ordered(one(x.Value(i)), one(y.Value(i))) })
		return
	case *array.String:
		y := b.(*array.String)
		fill(func(i int) int { return ordered(x.Value(i), y.Value(i)) })
		return
	case interface{ Value(int) []byte }: // of as many bytes each, or not
		y := b.(interface{ Value(int) []byte })
		fill(func(i int) int { return ordered(string(x.Value(i)), string(y.Value(i))) })
		return
	}
	wholeA, wholeB := wholes(a), wholes(b)
	floatA, floatB := floats(a), floats(b)
	switch {
	case wholeA != nil && wholeB != nil:
		fill(func(i int) int { return ordered(wholeA(i), wholeB(i)) })
	case floatA != nil && floatB != nil:
		fill(func(i int) int { return ordered(floatA(i), floatB(i)) })
	case wholeA != nil && floatB != nil:
		fill(func(i int) int { return orderedMixed(wholeA(i), floatB(i)) })
	case floatA != nil && wholeB != nil:
		fill(func(i int) int { return [...]int{greater, same, less, unordered}[orderedMixed(wholeB(i), floatA(i))] })
	default:
		fill(func(i int) int { return orderedExact(a, b, i) })
	}
}

// wholes returns the values of a column that are integers in some unit; nil if they
// are not.
func wholes(a arrow.Array) func(int) int64 {
	switch a := a.(type) {
	case *array.Int32:
		return func(i int) int64 { return int64(a.Value(i)) }
	case *array.Int64:
		return a.Value
	case *array.Date32:
		return func(i int) int64 { return int64(a.Value(i)) }
	case *array.Time64:
		return func(i int) int64 { return int64(a.Value(i)) }
	case *array.Timestamp:
		return func(i int) int64 { return int64(a.Value(i)) }
	}
	return nil
}

func floats(a arrow.Array) func(int) float64 {
	switch a := a.(type) {
	case *array.Float32:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Float64:
		return a.Value
	}
	return nil
}

// orderedMixed compares an integer with a float, of which neither holds all values of
// the other.
func orderedMixed(i int64, f float64) int {
	switch {
	case f != f:
		return unordered
	case f >= 1<<63:
		return less
	case f < -1<<63:
		return greater
	}
	whole := math.Trunc(f)
	if order := ordered(i, int64(whole)); order != same {
		return order
	}
	return ordered(whole, f)
}

// orderedExact compares numbers of which one is a decimal.
func orderedExact(a, b arrow.Array, row int) int {
	x, infX := rationalOf(a, row)
	y, infY := rationalOf(b, row)
	switch {
	case math.IsNaN(infX) || math.IsNaN(infY):
		return unordered
	case infX != 0 || infY != 0: // only one may be a float
		return ordered(infX, infY)
	}
	return x.Cmp(y) + same
}

// rationalOf returns a number; or a float that is none, and is not zero.
func rationalOf(a arrow.Array, row int) (r *big.Rat, none float64) {
	if d, ok := a.(*array.Decimal128); ok {
		scale := d.DataType().(*arrow.Decimal128Type).Scale
		return new(big.Rat).SetFrac(d.Value(row).BigInt(), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)), 0
	}
	if f := floats(a); f != nil {
		if r = new(big.Rat).SetFloat64(f(row)); r == nil {
			return nil, f(row)
		}
		return r, 0
	}
	return new(big.Rat).SetInt64(wholes(a)(row)), 0
}
