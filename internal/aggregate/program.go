package aggregate

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Program computes the results of specs that are numbers, or counts, of the
// records of a group, as words of its state.
type Program struct {
	Words int // of a state

	specs  []Spec
	places []place // of the specs
	checks []check // by column
	steps  []step
}

// check says what the values of a column have to be.
type check struct{ number, boolean bool }

// place says where in the state the words of a result are; of Mean, two.
type place struct{ at, count int }

// step changes a part of a state for a value of a column.
type step struct {
	do     stepKind
	col    int
	second int // column, of pairs
	at     int
}

type stepKind uint8

const (
	stepCount stepKind = iota
	stepSum
	stepMin
	stepMax
	stepSpread
	stepPairs
	stepBools
)

var stepWords = [...]int{
	stepCount: 1, stepSum: sumWords, stepMin: extremeWords, stepMax: extremeWords, stepSpread: spreadWords,
	stepPairs: pairsWords, stepBools: 1,
}

// Columns are the places of a spec's values among those that Add gets, -1 for none.
type Columns struct{ First, Second int }

// NewProgram returns a program for specs with their columns. Of specs that are
// neither numbers nor counts it checks the values.
func NewProgram(specs []Spec, columns []Columns) *Program {
	p := &Program{specs: specs, places: make([]place, len(specs))}
	for i, s := range specs {
		at, c := &p.places[i], columns[i]
		switch {
		case s.Func == Count && c.First >= 0:
			at.at = p.need(stepCount, c)
		case s.Func == Sum:
			at.at = p.need(stepSum, c)
		case s.Func == Mean:
			*at = place{p.need(stepSum, c), p.need(stepCount, c)}
		case s.Func == Min && !s.Bytes:
			at.at = p.need(stepMin, c)
		case s.Func == Max && !s.Bytes:
			at.at = p.need(stepMax, c)
		case s.Func == Stddev, s.Func == StddevPop, s.Func == Var, s.Func == VarPop:
			at.at = p.need(stepSpread, c)
		case s.OfPairs():
			at.at = p.need(stepPairs, c)
		case s.Boolean():
			at.at = p.need(stepBools, c)
		case s.Ranked():
			at.count = p.need(stepCount, c)
		}
		for _, col := range []int{c.First, c.Second} {
			for len(p.checks) <= col {
				p.checks = append(p.checks, check{})
			}
			if col >= 0 {
				p.checks[col].number = p.checks[col].number || s.Numeric()
				p.checks[col].boolean = p.checks[col].boolean || s.Boolean()
			}
		}
	}
	return p
}

// need returns where the state of a step is. Several results share it.
func (p *Program) need(do stepKind, c Columns) int {
	for _, s := range p.steps {
		if s.do == do && s.col == c.First && s.second == c.Second {
			return s.at
		}
	}
	s := step{do, c.First, c.Second, p.Words}
	p.steps = append(p.steps, s)
	p.Words += stepWords[do]
	return s.at
}

// Numbers reads the values of a record that have to be numbers, and checks those
// that have to be true or false. A value that is empty is missing. It returns the
// column of the first that is wrong, -1 for none. Numbers has room for each column.
func (p *Program) Numbers(values [][]byte, numbers []Number) int {
	for col, c := range p.checks {
		if len(values[col]) == 0 {
			continue
		}
		ok := true
		if c.number {
			numbers[col], ok = ParseNumber(values[col])
		}
		if ok && c.boolean {
			_, ok = ParseBool(values[col])
		}
		if !ok {
			return col
		}
	}
	return -1
}

// Add adds a record to the state of its group.
func (p *Program) Add(state []uint64, values [][]byte, numbers []Number) {
	for i := range p.steps {
		s := &p.steps[i]
		if len(values[s.col]) == 0 {
			continue
		}
		switch w := state[s.at:]; s.do {
		case stepCount:
			w[0]++
		case stepSum:
			addToSum(w, numbers[s.col])
		case stepMin:
			setExtreme(w, numbers[s.col], -1)
		case stepMax:
			setExtreme(w, numbers[s.col], 1)
		case stepSpread:
			addToSpread(w, numbers[s.col].Float64())
		case stepPairs:
			if len(values[s.second]) > 0 {
				addToPairs(w, numbers[s.second].Float64(), numbers[s.col].Float64())
			}
		case stepBools:
			if value, _ := ParseBool(values[s.col]); value {
				w[0] |= hasTrue
			} else {
				w[0] |= hasFalse
			}
		}
	}
}

// Merge adds a state to another.
func (p *Program) Merge(dst, src []uint64) {
	for _, s := range p.steps {
		d, o := dst[s.at:], src[s.at:]
		switch s.do {
		case stepCount:
			d[0] += o[0]
		case stepSum:
			mergeSum(d, o)
		case stepMin:
			if o[0] != 0 {
				setExtreme(d, extremeOf(o), -1)
			}
		case stepMax:
			if o[0] != 0 {
				setExtreme(d, extremeOf(o), 1)
			}
		case stepSpread:
			mergeSpread(d, o)
		case stepPairs:
			mergePairs(d, o)
		case stepBools:
			d[0] |= o[0]
		}
	}
}

// ErrRange is wrapped by the error for a result that no float64 holds.
var ErrRange = errors.New("the numbers are too large: beyond the range of a 64-bit float (1.8e308), if only on the way to the result")

// Append appends the result of spec i for a group of records. It returns what it
// got if there is none: of no values there is no sum.
func (p *Program) Append(dst []byte, i int, state []uint64, records uint64) ([]byte, error) {
	s, at := &p.specs[i], p.places[i]
	var n Number
	ok := false
	switch w := state[at.at:]; {
	case s.Func == Count && s.Field == "":
		return strconv.AppendUint(dst, records, 10), nil
	case s.Func == Count:
		return strconv.AppendUint(dst, w[0], 10), nil
	case s.Func == Sum:
		n, ok = sumOf(w)
	case s.Func == Mean:
		if n, ok = sumOf(w); ok {
			n = Float(n.Float64() / float64(state[at.count]))
		}
	case s.Func == Min, s.Func == Max:
		n, ok = extremeOf(w), w[0] != 0
	case s.Boolean():
		if w[0] == 0 {
			return dst, nil
		}
		return strconv.AppendBool(dst, w[0] == hasTrue || s.Func == BoolOr && w[0]&hasTrue != 0), nil
	case s.Func >= Stddev && s.Func <= VarPop:
		var f float64
		f, ok = spreadOf(s.Func, w)
		n = Float(f)
	case s.OfPairs():
		var f float64
		f, ok = pairsOf(s.Func, w)
		n = Float(f)
	default:
		panic(fmt.Sprintf("%s is not a number", s.Text))
	}
	if !ok {
		return dst, nil
	}
	return s.appendNumber(dst, n)
}

func (s Spec) appendNumber(dst []byte, n Number) ([]byte, error) {
	if n.Float && !isFinite(math.Float64frombits(n.Lo)) {
		return dst, fmt.Errorf("%s: %w", s.Text, ErrRange)
	}
	return n.Append(dst), nil
}

func isFinite(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }

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
