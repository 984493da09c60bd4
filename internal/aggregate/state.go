package aggregate

import (
	"math"
	"math/bits"
)

// States are 64-bit words that are 0 at the beginning.

const (
	hasInts = 1 << iota
	hasFloats
)

// A sum is exact for integers, and compensated for floats (Neumaier): what it is of; the
// 128 bits of a sum of integers, or a sum of floats and what was lost of it. From the first
// float on, integers are added as one or two floats that are them exactly.
const sumWords = 3

func addToSum(s []uint64, n Number) {
	_ = s[2]
	switch {
	case n.Float:
		floatSum(s)
		addFloat(s, math.Float64frombits(n.Lo))
	case s[0] == hasFloats:
		high, low := n.floats()
		addFloat(s, high)
		addFloat(s, low)
	default:
		s[0] = hasInts
		var carry uint64
		s[1], carry = bits.Add64(s[1], n.Lo, 0)
		s[2], _ = bits.Add64(s[2], n.Hi, carry)
	}
}

// floatSum makes a sum one of floats.
func floatSum(s []uint64) {
	if s[0] == hasInts {
		high, low := Number{Lo: s[1], Hi: s[2]}.floats()
		s[1], s[2] = math.Float64bits(high), math.Float64bits(low)
	}
	s[0] = hasFloats
}

func addFloat(s []uint64, x float64) {
	sum, lost := math.Float64frombits(s[1]), math.Float64frombits(s[2])
	t := sum + x
	if math.Abs(sum) >= math.Abs(x) {
		lost += (sum - t) + x
	} else {
		lost += (x - t) + sum
	}
	s[1], s[2] = math.Float64bits(t), math.Float64bits(lost)
}

func mergeSum(dst, src []uint64) {
	switch {
	case src[0] == 0:
	case src[0] == hasInts:
		addToSum(dst, Number{Lo: src[1], Hi: src[2]})
	default:
		floatSum(dst)
		addFloat(dst, math.Float64frombits(src[1]))
		dst[2] = math.Float64bits(math.Float64frombits(dst[2]) + math.Float64frombits(src[2]))
	}
}

// sumOf returns a sum, and false if it is one of nothing.
func sumOf(s []uint64) (Number, bool) {
	if s[0] == hasFloats {
		return Float(math.Float64frombits(s[1]) + math.Float64frombits(s[2])), true
	}
	return Number{Lo: s[1], Hi: s[2]}, s[0] != 0
}

// The least or greatest number: what kind it is, below the higher word of an integer, which
// leaves two bits for that; and the other word.
const extremeWords = 2

func setExtreme(s []uint64, n Number, sign int) {
	head := n.Hi<<2 | hasInts
	if n.Float {
		head = hasFloats
	}
	beyond := false
	switch _ = s[1]; {
	case s[0] != head || n.Float:
		beyond = s[0] == 0 || sign*n.Compare(extremeOf(s)) > 0
	case sign < 0:
		beyond = n.Lo < s[1]
	default:
		beyond = n.Lo > s[1]
	}
	if beyond {
		s[0], s[1] = head, n.Lo
	}
}

func extremeOf(s []uint64) Number {
	return Number{Float: s[0]&hasFloats != 0, Lo: s[1], Hi: uint64(int64(s[0]) >> 2)}
}

// The spread of numbers, after Welford: how many, their mean, and the sum of the
// squares of their distances from it. Parts are merged after Chan, Golub and
// LeVeque.
const spreadWords = 3

func addToSpread(s []uint64, x float64) {
	s[0]++
	mean := math.Float64frombits(s[1])
	d := x - mean
	mean += d / float64(s[0])
	s[1] = math.Float64bits(mean)
	s[2] = math.Float64bits(math.Float64frombits(s[2]) + d*(x-mean))
}

func mergeSpread(dst, src []uint64) {
	switch {
	case src[0] == 0:
		return
	case dst[0] == 0:
		copy(dst, src[:spreadWords])
		return
	}
	a, b := float64(dst[0]), float64(src[0])
	d := math.Float64frombits(src[1]) - math.Float64frombits(dst[1])
	mean := math.Float64frombits(dst[1]) + d*b/(a+b)
	m2 := math.Float64frombits(dst[2]) + math.Float64frombits(src[2]) + d*d*a*b/(a+b)
	dst[0] += src[0]
	dst[1], dst[2] = math.Float64bits(mean), math.Float64bits(m2)
}

// spreadOf returns a variance or its root, and false if there are too few numbers.
func spreadOf(f Func, s []uint64) (float64, bool) {
	n := float64(s[0])
	if f == Stddev || f == Var {
		n--
	}
	if s[0] == 0 || n < 1 {
		return 0, false
	}
	variance := math.Float64frombits(s[2]) / n
	if f == Var || f == VarPop {
		return variance, true
	}
	return math.Sqrt(variance), true
}
