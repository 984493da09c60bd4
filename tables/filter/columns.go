package filter

import (
	"math"
	"math/big"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

func canCompare(a, b arrow.DataType) bool {
	return a != nil && b != nil && (arrow.TypeEqual(a, b) || arrowtype.Of(a).IsNumber() && arrowtype.Of(b).IsNumber())
}

// compareColumns compares the columns a and b exactly in each row and stores the outcomes in out.
func (n *boundNode) compareColumns(out []outcomeSet, a, b arrow.Array) {
	outcomeByOrder := outcomeOf[n.op]
	fill := func(compare func(i int) int) {
		for i := range out {
			if a.IsValid(i) && b.IsValid(i) {
				out[i] = outcomeByOrder[compare(i)]
			}
		}
	}
	typeA, typeB := arrowtype.Of(a.DataType()), arrowtype.Of(b.DataType())
	switch {
	case typeA.Kind == arrowtype.Text:
		x, y := a.(array.StringLike), b.(array.StringLike)
		fill(func(i int) int { return compareValues(x.Value(i), y.Value(i)) })
	case typeA.Kind == arrowtype.Binary:
		x, y := a.(interface{ Value(int) []byte }), b.(interface{ Value(int) []byte })
		fill(func(i int) int { return compareValues(string(x.Value(i)), string(y.Value(i))) })
	case typeA.Ints != nil && typeB.Ints != nil:
		x, y := typeA.Ints(a), typeB.Ints(b)
		fill(func(i int) int { return compareValues(x(i), y(i)) })
	case typeA.Floats != nil && typeB.Floats != nil:
		x, y := typeA.Floats(a), typeB.Floats(b)
		fill(func(i int) int { return compareValues(x(i), y(i)) })
	case typeA.Ints != nil && typeB.Floats != nil:
		x, y := typeA.Ints(a), typeB.Floats(b)
		fill(func(i int) int { return compareMixed(x(i), y(i)) })
	case typeA.Floats != nil && typeB.Ints != nil: // compare b with a, and reverse the result
		x, y := typeA.Floats(a), typeB.Ints(b)
		fill(func(i int) int { return [...]int{greater, same, less, unordered}[compareMixed(y(i), x(i))] })
	default:
		fill(func(i int) int { return compareExact(a, b, i) })
	}
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
	t := arrowtype.Of(a.DataType())
	switch {
	case t.Decimals != nil:
		scale := big.NewInt(int64(a.DataType().(arrow.DecimalType).GetScale()))
		return new(big.Rat).SetFrac(t.Decimals(a)(row).BigInt(), new(big.Int).Exp(big.NewInt(10), scale, nil)), 0
	case t.Floats != nil:
		f := t.Floats(a)(row)
		r = new(big.Rat).SetFloat64(f)
		if r == nil {
			return nil, f
		}
		return r, 0
	}
	return new(big.Rat).SetInt64(t.Ints(a)(row)), 0
}
