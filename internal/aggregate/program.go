package aggregate

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Program computes results of a group's records that are numbers or counts. Their state is
// a number of words.
type Program struct {
	Words int // of a state

	specs  []Spec
	places []place // one for each spec
	checks []check // one for each column
	steps  []step
}

// check selects the checks of a column's values.
type check struct{ number, boolean bool }

// place is the position of a result's words in the state. Mean also uses count.
type place struct{ at, count int }

// step updates a part of a state for a value of a column.
type step struct {
	do     stepKind
	col    int
	second int // second column, for functions of pairs
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

// Columns are the indexes of a spec's values among those passed to Add, or -1.
type Columns struct{ First, Second int }

// NewProgram returns a program for specs with their columns. For specs that are neither
// numbers nor counts, it only checks values.
func NewProgram(specs []Spec, columns []Columns) *Program {
	p := &Program{specs: specs, places: make([]place, len(specs))}
	for i, s := range specs {
		where, c := &p.places[i], columns[i]
		switch {
		case s.Func == Count && c.First >= 0:
			where.at = p.addStep(stepCount, c)
		case s.Func == Sum:
			where.at = p.addStep(stepSum, c)
		case s.Func == Mean:
			*where = place{p.addStep(stepSum, c), p.addStep(stepCount, c)}
		case s.Func == Min && !s.Bytes:
			where.at = p.addStep(stepMin, c)
		case s.Func == Max && !s.Bytes:
			where.at = p.addStep(stepMax, c)
		case s.Func == Stddev, s.Func == StddevPop, s.Func == Var, s.Func == VarPop:
			where.at = p.addStep(stepSpread, c)
		case s.OfPairs():
			where.at = p.addStep(stepPairs, c)
		case s.Boolean():
			where.at = p.addStep(stepBools, c)
		case s.Ranked():
			where.count = p.addStep(stepCount, c)
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

// addStep returns the position of a step's state, which several results may share.
func (p *Program) addStep(do stepKind, c Columns) int {
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

// Numbers parses the values of a record that must be numbers, and checks the values that must
// be true or false. An empty value is missing. It returns the column of the first bad value,
// or -1. numbers must have room for each column.
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
var ErrRange = errors.New("the numbers are too large: the result, or an intermediate result, exceeds the range of a 64-bit float (1.8e308)")

// Append appends the result of spec i for a group of records. If there is no result, as for
// a sum of no values, it returns dst unchanged.
func (p *Program) Append(dst []byte, i int, state []uint64, records uint64) ([]byte, error) {
	s, column := &p.specs[i], p.places[i]
	var n Number
	ok := false
	switch w := state[column.at:]; {
	case s.Func == Count && s.Field == "":
		return strconv.AppendUint(dst, records, 10), nil
	case s.Func == Count:
		return strconv.AppendUint(dst, w[0], 10), nil
	case s.Func == Sum:
		n, ok = sumOf(w)
	case s.Func == Mean:
		if n, ok = sumOf(w); ok {
			n = Float(n.Float64() / float64(state[column.count]))
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

// Rank is the position of a quantile among a group's sorted numbers: index At, from 0, and
// a fraction of the way to the next number.
type Rank struct {
	At       uint64
	fraction float64
}

// Values returns the number of values of spec i, which must be ranked.
func (p *Program) Values(i int, state []uint64) uint64 { return state[p.places[i].count] }

// Rank returns the position of the quantile of spec i, and false if there are no numbers.
func (p *Program) Rank(i int, state []uint64) (Rank, bool) {
	n := p.Values(i, state)
	if n == 0 {
		return Rank{}, false
	}
	rank, fraction := math.Modf(p.specs[i].Fraction * float64(n-1))
	return Rank{uint64(rank), fraction}, true
}

// AppendQuantile appends the quantile of spec i, which lies between the number at rank r and
// the next one.
func (p *Program) AppendQuantile(dst []byte, i int, r Rank, number, next Number) ([]byte, error) {
	if r.fraction == 0 || number.Compare(next) == 0 {
		return p.specs[i].appendNumber(dst, number)
	}
	a, b := number.Float64(), next.Float64()
	between := a + (b-a)*r.fraction
	if !isFinite(between) { // b-a exceeds the range, but the result does not
		between = a*(1-r.fraction) + b*r.fraction
	}
	return p.specs[i].appendNumber(dst, Float(between))
}
