package aggregate

import "math"

// Pairs of numbers, after Welford as the spread of one number is: how many, the
// means of x and of y, the sums of the squares of the distances from them, and that
// of the products of these distances.
const pairsWords = 6

// pairs are the words of a state of pairs as they are computed with.
type pairs struct{ n, x, y, xx, yy, xy float64 }

func pairsAt(s []uint64) pairs {
	_ = s[5]
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
	p := pairsAt(s)
	p.n++
	dx, dy := x-p.x, y-p.y
	p.x += dx / p.n
	p.y += dy / p.n
	p.xx += dx * (x - p.x)
	p.yy += dy * (y - p.y)
	p.xy += dx * (y - p.y)
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
	p, o := pairsAt(dst), pairsAt(src)
	dx, dy, all := o.x-p.x, o.y-p.y, p.n+o.n
	p.x += dx * o.n / all
	p.y += dy * o.n / all
	p.xx += o.xx + dx*dx*p.n*o.n/all
	p.yy += o.yy + dy*dy*p.n*o.n/all
	p.xy += o.xy + dx*dy*p.n*o.n/all
	p.n = all
	p.store(dst)
}

// pairsOf returns a result, and false if there is none by SQL's rules: of too few
// pairs, and of a line or a correlation where all x are the same, or all y.
func pairsOf(f Func, s []uint64) (float64, bool) {
	p := pairsAt(s)
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
		return p.corr(), p.xx != 0 && p.yy != 0
	case RegrSlope:
		return slope, p.xx != 0
	case RegrIntercept:
		return p.y - slope*p.x, p.xx != 0
	}
	if p.yy == 0 && isFinite(p.xx) { // the line meets all pairs
		return 1, p.xx != 0
	}
	return p.corr() * p.corr(), p.xx != 0
}

// corr returns the correlation, NaN where the squares are beyond the range of a
// float.
func (p pairs) corr() float64 {
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
