package aggregate

import (
	"bytes"
	"math"
	"math/bits"
)

// The kind of a sum or an extreme is 0 if no number was added, or one of these.
const (
	hasInts = 1 << iota
	hasFloats
)

// The words of a sum are its kind, and either a 128-bit sum of integers, or a sum of floats and its
// rounding error (Neumaier's compensated sum). After the first float, each integer is converted to
// one or two floats.
const sumWords = 3

func addToSum(s []uint64, n Number) {
	_ = s[2] // so that the compiler checks the bounds only once
	switch {
	case n.Float:
		convertToFloats(s)
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

func convertToFloats(s []uint64) {
	if s[0] == hasInts {
		high, low := Number{Lo: s[1], Hi: s[2]}.floats()
		s[1], s[2] = math.Float64bits(high), math.Float64bits(low)
	}
	s[0] = hasFloats
}

func addFloat(s []uint64, x float64) {
	sum, rounding := math.Float64frombits(s[1]), math.Float64frombits(s[2])
	t := sum + x
	if math.Abs(sum) >= math.Abs(x) {
		rounding += (sum - t) + x
	} else {
		rounding += (x - t) + sum
	}
	s[1], s[2] = math.Float64bits(t), math.Float64bits(rounding)
}

func mergeSum(dst, src []uint64) {
	switch {
	case src[0] == 0:
	case src[0] == hasInts:
		addToSum(dst, Number{Lo: src[1], Hi: src[2]})
	default:
		convertToFloats(dst)
		addFloat(dst, math.Float64frombits(src[1]))
		dst[2] = math.Float64bits(math.Float64frombits(dst[2]) + math.Float64frombits(src[2]))
	}
}

// decodeSum returns a sum, or false if no number was added.
func decodeSum(s []uint64) (Number, bool) {
	if s[0] == hasFloats {
		return Float(math.Float64frombits(s[1]) + math.Float64frombits(s[2])), true
	}
	return Number{Lo: s[1], Hi: s[2]}, s[0] != 0
}

// An extreme is the smallest or the largest number. The first word is the kind (two lowest bits)
// and Number.Hi; the second word is Number.Lo.
const extremeWords = 2

// setExtreme replaces the extreme s by n if n is smaller (sign -1) or larger (sign 1). If an
// integer and a float are equal, the integer remains, so that the result does not depend on their
// order.
func setExtreme(s []uint64, n Number, sign int) {
	head := n.Hi<<2 | hasInts
	if n.Float {
		head = hasFloats
	}
	replace := false
	_ = s[1] // so that the compiler checks the bounds only once
	switch {
	case s[0] != head || n.Float:
		order := 1
		if s[0] != 0 {
			order = sign * n.Compare(decodeExtreme(s))
		}
		replace = order > 0 || order == 0 && !n.Float
	case sign < 0:
		replace = n.Lo < s[1]
	default:
		replace = n.Lo > s[1]
	}
	if replace {
		s[0], s[1] = head, n.Lo
	}
}

func decodeExtreme(s []uint64) Number {
	return Number{Float: s[0]&hasFloats != 0, Lo: s[1], Hi: uint64(int64(s[0]) >> 2)}
}

// The conversions of products to float64 below keep Go from fusing a product with a sum, which would change the last
// bits of results on arm64.

// The words of a spread are the count of the numbers, their mean, and the sum of their squared
// distances from the mean (Welford's method). Spreads are merged with the method of Chan, Golub
// and LeVeque.
const spreadWords = 3

func addToSpread(s []uint64, x float64) {
	s[0]++
	mean := math.Float64frombits(s[1])
	d := x - mean
	mean += d / float64(s[0])
	s[1] = math.Float64bits(mean)
	s[2] = math.Float64bits(math.Float64frombits(s[2]) + float64(d*(x-mean)))
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

// spreadResult returns a variance or standard deviation, or false if there are too few numbers.
func spreadResult(f Func, s []uint64) (float64, bool) {
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

// The words of the state of pairs (x, y) are their count, the means of x and y, the sums of the
// squared distances from the means, and the sum of the products of these distances.
const pairsWords = 6

type pairs struct{ n, x, y, xx, yy, xy float64 }

func decodePairs(s []uint64) pairs {
	_ = s[5] // so that the compiler checks the bounds only once
	return pairs{
		float64(s[0]), math.Float64frombits(s[1]), math.Float64frombits(s[2]),
		math.Float64frombits(s[3]), math.Float64frombits(s[4]), math.Float64frombits(s[5]),
	}
}

func (p *pairs) store(s []uint64) {
	s[0], s[1], s[2] = uint64(p.n), math.Float64bits(p.x), math.Float64bits(p.y)
	s[3], s[4], s[5] = math.Float64bits(p.xx), math.Float64bits(p.yy), math.Float64bits(p.xy)
}

func addToPairs(s []uint64, x, y float64) {
	p := decodePairs(s)
	p.n++
	dx, dy := x-p.x, y-p.y
	p.x += dx / p.n
	p.y += dy / p.n
	p.xx += float64(dx * (x - p.x))
	p.yy += float64(dy * (y - p.y))
	p.xy += float64(dx * (y - p.y))
	p.store(s)
}

func mergePairs(dst, src []uint64) {
	switch {
	case src[0] == 0:
		return
	case dst[0] == 0:
		copy(dst, src[:pairsWords])
		return
	}
	p, o := decodePairs(dst), decodePairs(src)
	dx, dy, total := o.x-p.x, o.y-p.y, p.n+o.n
	p.x += dx * o.n / total
	p.y += dy * o.n / total
	p.xx += o.xx + dx*dx*p.n*o.n/total
	p.yy += o.yy + dy*dy*p.n*o.n/total
	p.xy += o.xy + dx*dy*p.n*o.n/total
	p.n = total
	p.store(dst)
}

// pairsResult returns the result of a function of pairs, or false if SQL defines no result: if
// there are too few pairs, or if all x or all y are equal.
func pairsResult(f Func, s []uint64) (float64, bool) {
	p := decodePairs(s)
	slope := p.xy / p.xx
	if !isFinite(p.xx) {
		slope = math.NaN()
	}
	switch f {
	case Covar:
		return p.xy / (p.n - 1), p.n > 1
	case CovarPop:
		return p.xy / p.n, p.n > 0
	case Corr:
		return p.correlation(), p.xx != 0 && p.yy != 0
	case RegrSlope:
		return slope, p.xx != 0
	case RegrIntercept:
		return p.y - float64(slope*p.x), p.xx != 0
	}
	if p.yy == 0 && isFinite(p.xx) { // all pairs lie on the line
		return 1, p.xx != 0
	}
	return p.correlation() * p.correlation(), p.xx != 0
}

// correlation returns the correlation of x and y, or NaN if a sum of squares exceeds the range of
// float64.
func (p pairs) correlation() float64 {
	if !isFinite(p.xx) || !isFinite(p.yy) {
		return math.NaN()
	}
	squares := p.xx * p.yy
	root := math.Sqrt(squares)
	if squares < 1e-290 || !isFinite(squares) {
		root = math.Sqrt(p.xx) * math.Sqrt(p.yy)
	}
	return max(-1, min(1, p.xy/root))
}

// ParseBool parses the spellings of true and false that PostgreSQL accepts, in upper or lower
// case. It ignores spaces around them.
func ParseBool(text []byte) (value, ok bool) {
	var lower [5]byte
	text = bytes.Trim(text, " ")
	if len(text) > len(lower) {
		return false, false
	}
	for i, c := range text {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	switch string(lower[:len(text)]) {
	case "true", "t", "yes", "y", "on", "1":
		return true, true
	case "false", "f", "no", "n", "off", "0":
		return false, true
	}
	return false, false
}

// The state of booleans is a set of these bits.
const (
	hasTrue = 1 << iota
	hasFalse
)
