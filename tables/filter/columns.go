package filter

import (
	"math"
	"math/big"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

func canCompare(a, b arrow.DataType) bool {
	isNumber := func(t arrow.DataType) bool {
		return arrow.IsInteger(t.ID()) || arrow.IsFloating(t.ID()) || arrow.IsDecimal(t.ID())
	}
	return a != nil && b != nil && (arrow.TypeEqual(a, b) || isNumber(a) && isNumber(b))
}

// compareColumns compares the columns a and b exactly, row by row, and stores the outcomes in out.
func (n *boundNode) compareColumns(out []outcomeSet, a, b arrow.Array) {
	outcomeByOrder := outcomeOf[n.op]
	fill := func(compare func(i int) int) {
		for i := range out {
			if a.IsValid(i) && b.IsValid(i) {
				out[i] = outcomeByOrder[compare(i)]
			}
		}
	}
	switch x := a.(type) {
	case *array.Boolean:
		y := b.(*array.Boolean)
		fill(func(i int) int { return compareValues(toInt(x.Value(i)), toInt(y.Value(i))) })
		return
	case *array.String:
		y := b.(*array.String)
		fill(func(i int) int { return compareValues(x.Value(i), y.Value(i)) })
		return
	case interface{ Value(int) []byte }: // binary columns, of fixed or variable size
		y := b.(interface{ Value(int) []byte })
		fill(func(i int) int { return compareValues(string(x.Value(i)), string(y.Value(i))) })
		return
	}
	intA, intB := intsOf(a), intsOf(b)
	floatA, floatB := floatsOf(a), floatsOf(b)
	switch {
	case intA != nil && intB != nil:
		fill(func(i int) int { return compareValues(intA(i), intB(i)) })
	case floatA != nil && floatB != nil:
		fill(func(i int) int { return compareValues(floatA(i), floatB(i)) })
	case intA != nil && floatB != nil:
		fill(func(i int) int { return compareMixed(intA(i), floatB(i)) })
	case floatA != nil && intB != nil: // compare b with a, and reverse the result
		fill(func(i int) int { return [...]int{greater, same, less, unordered}[compareMixed(intB(i), floatA(i))] })
	default:
		fill(func(i int) int { return compareExact(a, b, i) })
	}
}

// intsOf returns a function that returns the value at a row of a column of integers, dates or times. It returns nil for
// other columns.
func intsOf(a arrow.Array) func(int) int64 {
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

// floatsOf is like intsOf, but for a column of floats.
func floatsOf(a arrow.Array) func(int) float64 {
	switch a := a.(type) {
	case *array.Float32:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Float64:
		return a.Value
	}
	return nil
}

// compareMixed compares an integer with a float exactly, although each type has values that the other type cannot
// represent.
func compareMixed(i int64, f float64) int {
	switch {
	case f != f:
		return unordered
	case f >= 1<<63:
		return less
	case f < -1<<63:
		return greater
	}
	whole := math.Trunc(f)
	if order := compareValues(i, int64(whole)); order != same {
		return order
	}
	return compareValues(whole, f)
}

// compareExact compares the numbers in a row of a and b, at least one of which is a decimal column.
func compareExact(a, b arrow.Array, row int) int {
	x, infX := rationalOf(a, row)
	y, infY := rationalOf(b, row)
	switch {
	case math.IsNaN(infX) || math.IsNaN(infY):
		return unordered
	case infX != 0 || infY != 0: // only one can be infinite, because decimals are finite
		return compareValues(infX, infY)
	}
	return x.Cmp(y) + same
}

// rationalOf returns the exact value of a number. For an infinity or NaN, r is nil, and special is the value.
func rationalOf(a arrow.Array, row int) (r *big.Rat, special float64) {
	if d, ok := a.(*array.Decimal128); ok {
		scale := d.DataType().(*arrow.Decimal128Type).Scale
		return new(big.Rat).SetFrac(d.Value(row).BigInt(), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)), 0
	}
	if f := floatsOf(a); f != nil {
		r = new(big.Rat).SetFloat64(f(row))
		if r == nil {
			return nil, f(row)
		}
		return r, 0
	}
	return new(big.Rat).SetInt64(intsOf(a)(row)), 0
}
