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

// A sum is exact for integers and compensated for floats (Neumaier): flags, the
// 128 bits of the sum of the integers, the sum of the floats, what was lost.
const sumWords = 5

func addToSum(s []uint64, n Number) {
	_ = s[4]
	if n.Float {
		s[0] |= hasFloats
		addFloat(s[3:5], math.Float64frombits(n.Lo))
		return
	}
	s[0] |= hasInts
	var carry uint64
	s[1], carry = bits.Add64(s[1], n.Lo, 0)
	s[2], _ = bits.Add64(s[2], n.Hi, carry)
}

func addFloat(s []uint64, x float64) {
	sum, lost := math.Float64frombits(s[0]), math.Float64frombits(s[1])
	t := sum + x
	if math.Abs(sum) >= math.Abs(x) {
		lost += (sum - t) + x
	} else {
		lost += (x - t) + sum
	}
	s[0], s[1] = math.Float64bits(t), math.Float64bits(lost)
}

func mergeSum(dst, src []uint64) {
	dst[0] |= src[0]
	var carry uint64
	dst[1], carry = bits.Add64(dst[1], src[1], 0)
	dst[2], _ = bits.Add64(dst[2], src[2], carry)
	if src[0]&hasFloats != 0 {
		addFloat(dst[3:5], math.Float64frombits(src[3]))
		dst[4] = math.Float64bits(math.Float64frombits(dst[4]) + math.Float64frombits(src[4]))
	}
}

// sumOf returns a sum, and false if it is one of nothing.
func sumOf(s []uint64) (Number, bool) {
	whole := Number{Lo: s[1], Hi: s[2]}
	switch s[0] {
	case 0:
		return whole, false
	case hasInts:
		return whole, true
	}
	f := [2]uint64{s[3], s[4]}
	if s[0]&hasInts != 0 {
		addFloat(f[:], whole.Float64())
	}
	return Float(math.Float64frombits(f[0]) + math.Float64frombits(f[1])), true
}

// The least or greatest number: whether there is one and whether it is a float,
// and its bits.
const extremeWords = 3

func setExtreme(s []uint64, n Number, sign int) {
	kind := uint64(hasInts)
	if n.Float {
		kind = hasFloats
	}
	if s[0] == 0 || sign*n.Compare(extremeOf(s)) > 0 {
		s[0], s[1], s[2] = kind, n.Lo, n.Hi
	}
}

func extremeOf(s []uint64) Number { return Number{Float: s[0] == hasFloats, Lo: s[1], Hi: s[2]} }

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
	if src[0] == 0 {
		return
	}
	a, b := float64(dst[0]), float64(src[0])
	d := math.Float64frombits(src[1]) - math.Float64frombits(dst[1])
	mean := math.Float64frombits(dst[1]) + d*b/(a+b)
	m2 := math.Float64frombits(dst[2]) + math.Float64frombits(src[2]) + d*d*a*b/(a+b)
	dst[0] += src[0]
	dst[1], dst[2] = math.Float64bits(mean), math.Float64bits(m2)
}

// deviationOf returns the sample standard deviation, and false if there are
// fewer than two numbers.
func deviationOf(s []uint64) (float64, bool) {
	if s[0] < 2 {
		return 0, false
	}
	return math.Sqrt(math.Float64frombits(s[2]) / float64(s[0]-1)), true
}
