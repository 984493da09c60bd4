package aggregate

import "math"

// Rank says which of the sorted numbers of a group a quantile is made of: the one
// at At, from 0, and a part of the way to the next.
type Rank struct {
	At   uint64
	part float64
}

// Values returns how many values spec i, which is ranked, is made of.
func (p *Program) Values(i int, state []uint64) uint64 { return state[p.places[i].count] }

// Rank returns where the quantile of spec i is, and false if there are no numbers.
func (p *Program) Rank(i int, state []uint64) (Rank, bool) {
	n := p.Values(i, state)
	if n == 0 {
		return Rank{}, false
	}
	at, part := math.Modf(p.specs[i].Fraction * float64(n-1))
	return Rank{uint64(at), part}, true
}

// AppendQuantile appends the quantile of spec i: between the number at a rank and
// the one after it.
func (p *Program) AppendQuantile(dst []byte, i int, r Rank, number, next Number) ([]byte, error) {
	if r.part == 0 || number.Compare(next) == 0 {
		return p.specs[i].appendNumber(dst, number)
	}
	a, b := number.Float64(), next.Float64()
	between := a + (b-a)*r.part
	if !isFinite(between) { // their distance is beyond the range, what lies between is not
		between = a*(1-r.part) + b*r.part
	}
	return p.specs[i].appendNumber(dst, Float(between))
}
