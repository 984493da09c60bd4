package transform

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

type number interface {
	int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | float32 | float64
}

// numbers is the gatherer for columns of numbers.
type numbers[T number] struct {
	needsMoments bool        // a function needs the product or the variance (see addMoments)
	keepsValues  bool        // a function needs all values of the bin
	kept         []T         // the bin's values, if keepsValues
	floatTotals  bool        // T is a float type and only sums and counts are needed
	values       []T         // the current batch
	nulls        arrow.Array // the current batch if it has nulls; otherwise nil
	binState[T]
}

// binState accumulates the numbers of a bin. It ignores nulls and NaN.
type binState[T number] struct {
	n                            int64
	first, last, lowest, highest T
	sum                          float64 // the sum, if T is a float
	high                         int64   // if T is an integer type, high and low form the 128-bit sum
	low                          uint64

	product float64
	// number of finite values, their mean, and the sum of the squared differences from the mean
	numFinite, mean, squares float64
	hasInfinity              bool
}

func newNumbers[T number](names []string) gatherer {
	g := &numbers[T]{needsMoments: containsOther(names, slices.Concat(valueFunctions, sumFunctions)), keepsValues: containsOther(names, momentFunctions), floatTotals: isFloat[T]() && !containsOther(names, totalFunctions)}
	g.begin()
	return g
}

func (g *numbers[T]) begin() { g.binState, g.kept = binState[T]{product: 1}, g.kept[:0] }

func isFloat[T number]() bool {
	one := T(1)
	return one/2 != 0 // the quotient of integers is 0
}

func (g *numbers[T]) setBatch(c arrow.Array) {
	g.values, g.nulls = c.(interface{ Values() []T }).Values(), nil
	if c.NullN() > 0 {
		g.nulls = c
	}
}

func (g *numbers[T]) add(from, to int) {
	float := isFloat[T]()
	n, sum, high, low := g.n, g.sum, g.high, g.low
	if g.floatTotals && g.nulls == nil {
		for _, v := range g.values[from:to] {
			if v == v { // not NaN
				n++
				sum += float64(v)
			}
		}
		g.n, g.sum = n, sum
		return
	}
	for i, v := range g.values[from:to] {
		if v != v || g.nulls != nil && g.nulls.IsNull(from+i) {
			continue
		}
		if n == 0 {
			g.first, g.lowest, g.highest = v, v, v
		}
		n++
		if float {
			sum += float64(v)
		} else {
			var carry uint64
			low, carry = bits.Add64(low, uint64(v), 0)
			high += int64(carry)
			if v < 0 {
				high--
			}
		}
		g.last = v
		if v < g.lowest {
			g.lowest = v
		} else if v > g.highest {
			g.highest = v
		}
		if g.needsMoments {
			g.addMoments(float64(v))
		}
		if g.keepsValues {
			g.kept = append(g.kept, v)
		}
	}
	g.n, g.sum, g.high, g.low = n, sum, high, low
}

// addMoments adds v to the product, the mean and the squares, the latter two with Welford's algorithm.
func (g *binState[T]) addMoments(v float64) {
	g.product *= v
	if math.IsInf(v, 0) {
		g.hasInfinity = true
		return
	}
	g.numFinite++
	delta := v - g.mean
	g.mean += delta / g.numFinite
	g.squares += delta * (v - g.mean)
}

// total returns the sum of integers or floats as a float.
func (g *binState[T]) total() float64 {
	switch {
	case isFloat[T]():
		return g.sum
	case g.high == int64(g.low)>>63: // the sum fits into int64
		return float64(int64(g.low))
	}
	return float64(g.high)*(1<<64) + float64(g.low)
}

func (g *numbers[T]) putter(function string, builder array.Builder) func() error {
	floats, _ := builder.(*array.Float64Builder)
	switch function {
	case "count":
		return putCount(&g.n, builder)
	case "sum":
		return func() error { return g.putSum(builder) }
	case "mean":
		return putFloat(&g.n, func() float64 { return g.total() / float64(g.n) }, floats)
	case "median", "quantile":
		return putFloat(&g.n, func() float64 { return median(g.kept) }, floats)
	case "nunique":
		return func() error {
			builder.(*array.Int64Builder).Append(countDistinct(g.kept))
			return nil
		}
	case "prod":
		return func() error {
			floats.Append(g.product)
			return nil
		}
	case "std", "var", "sem":
		return func() error { return g.putVariance(function, floats) }
	}
	return putOrNull(&g.n, selectValue(function, &g.first, &g.last, &g.lowest, &g.highest), builder)
}

func (g *binState[T]) putSum(builder array.Builder) error {
	switch b := builder.(type) {
	case *array.Float64Builder:
		b.Append(g.sum)
	case *array.Int64Builder:
		if g.high != int64(g.low)>>63 {
			return overflowError(int64Type)
		}
		b.Append(int64(g.low))
	case *array.Uint64Builder:
		if g.high != 0 {
			return overflowError(arrow.PrimitiveTypes.Uint64)
		}
		b.Append(g.low)
	}
	return nil
}

func overflowError(t arrow.DataType) error {
	return fmt.Errorf("the sum of a bin's values overflows %s: resample with mean, or store the values as floats", t)
}

func (g *binState[T]) putVariance(function string, builder *array.Float64Builder) error {
	variance := g.squares / (g.numFinite - 1)
	switch {
	case g.hasInfinity:
		variance = math.NaN()
	case g.numFinite < 2:
		builder.AppendNull()
		return nil
	case math.IsInf(variance, 0) || math.IsNaN(variance):
		return fmt.Errorf("%s: the variance of a bin's values overflows float64: scale the values down before you store them", function)
	}
	if function != "var" {
		variance = math.Sqrt(variance)
	}
	if function == "sem" {
		variance /= math.Sqrt(float64(g.n))
	}
	builder.Append(variance)
	return nil
}

// median returns the median of values, which it reorders.
func median[T number](values []T) float64 {
	half := len(values) / 2
	selectNth(values, half)
	if len(values)%2 > 0 {
		return float64(values[half])
	}
	// the same formula as DuckDB's, so that the result is rounded equally
	return float64(slices.Max(values[:half]))*0.5 + float64(values[half])*0.5
}

const sortThreshold = 16 // selectNth sorts slices of up to this many values

// selectNth reorders values so that values[n] is what it would be after sorting, and no value before it is greater. It
// is quickselect, but sorts the remaining values after too many rounds with bad pivots.
func selectNth[T number](values []T, n int) {
	for rounds := 4 * bits.Len(uint(len(values))); rounds > 0 && len(values) > sortThreshold; rounds-- {
		a, b, c := values[0], values[len(values)/2], values[len(values)-1]
		pivot := max(min(a, b), min(max(a, b), c))
		numLess := 0
		for i, v := range values { // no branches, because half of them would be mispredicted
			values[i] = values[numLess]
			values[numLess] = v
			step := 0
			if v < pivot {
				step = 1
			}
			numLess += step
		}
		switch {
		case n < numLess:
			values = values[:numLess]
			continue
		case numLess == 0: // the pivot is the minimum
			for i, v := range values {
				values[i] = values[numLess]
				values[numLess] = v
				if v <= pivot {
					numLess++
				}
			}
			if n < numLess {
				return
			}
		}
		values, n = values[numLess:], n-numLess
	}
	slices.Sort(values)
}

// countDistinct returns the number of distinct values. It sorts the slice.
func countDistinct[T number](values []T) int64 {
	slices.Sort(values)
	n := int64(0)
	for i, v := range values {
		if i == 0 || v != values[i-1] {
			n++
		}
	}
	return n
}
