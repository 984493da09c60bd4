package aggregate

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Program computes those aggregates of groups of records that have a state of fixed size.
type Program struct {
	Words int // number of words in a group's state; they must initially be 0

	specs        []Spec
	stateIndexes []stateIndex // one for each spec
	checks       []check      // one for each column
	steps        []step
}

// check says whether a column's values must be numbers or booleans.
type check struct{ number, boolean bool }

// stateIndex says where an aggregate's words are in the state.
type stateIndex struct {
	first int // index of the aggregate's first word
	count int // for Mean, Quantile and Mode: index of the word with the number of values
}

// step updates an aggregate's words in a state with a value of a column.
type step struct {
	kind      stepKind
	col       int
	secondCol int // second column, for functions of pairs
	first     int // index of the first word in the state
}

type stepKind uint8

const (
	stepCount stepKind = iota
	stepSum
	stepMin
	stepMax
	stepSpread
	stepPairs
	stepBooleans
)

var stepWords = [...]int{
	stepCount: 1, stepSum: sumWords, stepMin: extremeWords, stepMax: extremeWords, stepSpread: spreadWords,
	stepPairs: pairsWords, stepBooleans: 1,
}

// Columns holds the indexes of a spec's first and second column, or -1.
type Columns struct{ First, Second int }

// NewProgram returns a program that computes specs. columns[i] holds the columns of specs[i]. If a
// spec has no fixed-size state (see Spec.StoresValues), the program only checks its values.
func NewProgram(specs []Spec, columns []Columns) *Program {
	p := &Program{specs: specs, stateIndexes: make([]stateIndex, len(specs))}
	for i, s := range specs {
		index, c := &p.stateIndexes[i], columns[i]
		switch {
		case s.Func == Count && c.First >= 0:
			index.first = p.addStep(stepCount, c)
		case s.Func == Sum:
			index.first = p.addStep(stepSum, c)
		case s.Func == Mean:
			*index = stateIndex{p.addStep(stepSum, c), p.addStep(stepCount, c)}
		case s.Func == Min && !s.Bytes:
			index.first = p.addStep(stepMin, c)
		case s.Func == Max && !s.Bytes:
			index.first = p.addStep(stepMax, c)
		case s.Func == Stddev, s.Func == StddevPop, s.Func == Var, s.Func == VarPop:
			index.first = p.addStep(stepSpread, c)
		case s.IsPaired():
			index.first = p.addStep(stepPairs, c)
		case s.NeedsBooleans():
			index.first = p.addStep(stepBooleans, c)
		case s.NeedsSorting():
			index.count = p.addStep(stepCount, c)
		}
		for _, col := range []int{c.First, c.Second} {
			for len(p.checks) <= col {
				p.checks = append(p.checks, check{})
			}
			if col >= 0 {
				p.checks[col].number = p.checks[col].number || s.NeedsNumbers()
				p.checks[col].boolean = p.checks[col].boolean || s.NeedsBooleans()
			}
		}
	}
	return p
}

// addStep adds a step, unless the program already has it. It returns the index of the step's
// first word in the state.
func (p *Program) addStep(kind stepKind, c Columns) int {
	for _, s := range p.steps {
		if s.kind == kind && s.col == c.First && s.secondCol == c.Second {
			return s.first
		}
	}
	s := step{kind, c.First, c.Second, p.Words}
	p.steps = append(p.steps, s)
	p.Words += stepWords[kind]
	return s.first
}

// Merge merges the state src into dst.
func (p *Program) Merge(dst, src []uint64) {
	for _, s := range p.steps {
		into, from := dst[s.first:], src[s.first:]
		switch s.kind {
		case stepCount:
			into[0] += from[0]
		case stepSum:
			mergeSum(into, from)
		case stepMin:
			if from[0] != 0 {
				setExtreme(into, decodeExtreme(from), -1)
			}
		case stepMax:
			if from[0] != 0 {
				setExtreme(into, decodeExtreme(from), 1)
			}
		case stepSpread:
			mergeSpread(into, from)
		case stepPairs:
			mergePairs(into, from)
		case stepBooleans:
			into[0] |= from[0]
		}
	}
}

// ErrRange means that a result exceeds the range of float64.
var ErrRange = errors.New("the numbers are too large: the result, or an intermediate result, exceeds the range of a 64-bit float (1.8e308)")

// Append appends the result of spec i for a group. records is the number of records in the group. If
// there is no result, for example because all values are missing, Append returns dst unchanged.
func (p *Program) Append(dst []byte, i int, state []uint64, records uint64) ([]byte, error) {
	s, index := &p.specs[i], p.stateIndexes[i]
	var n Number
	ok := false
	w := state[index.first:]
	switch {
	case s.Func == Count && s.Field == "":
		return strconv.AppendUint(dst, records, 10), nil
	case s.Func == Count:
		return strconv.AppendUint(dst, w[0], 10), nil
	case s.Func == Sum:
		n, ok = decodeSum(w)
	case s.Func == Mean:
		n, ok = decodeSum(w)
		if ok {
			n = Float(n.Float64() / float64(state[index.count]))
		}
	case s.Func == Min, s.Func == Max:
		n, ok = decodeExtreme(w), w[0] != 0
	case s.NeedsBooleans():
		if w[0] == 0 {
			return dst, nil
		}
		return strconv.AppendBool(dst, w[0] == hasTrue || s.Func == BoolOr && w[0]&hasTrue != 0), nil
	case s.Func >= Stddev && s.Func <= VarPop:
		var f float64
		f, ok = spreadResult(s.Func, w)
		n = Float(f)
	case s.IsPaired():
		var f float64
		f, ok = pairsResult(s.Func, w)
		n = Float(f)
	default:
		panic(fmt.Sprintf("the result of %s is not a number", s.Text))
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

// Rank is the position of a quantile among a group's sorted numbers.
type Rank struct {
	Index    uint64
	fraction float64 // position between the number at Index (0) and the next number (1)
}

// Values returns the number of values of spec i, which must be a Quantile or a Mode.
func (p *Program) Values(i int, state []uint64) uint64 { return state[p.stateIndexes[i].count] }

// Rank returns the position of the quantile of spec i, or false if the group has no numbers.
func (p *Program) Rank(i int, state []uint64) (Rank, bool) {
	n := p.Values(i, state)
	if n == 0 {
		return Rank{}, false
	}
	rank, fraction := math.Modf(p.specs[i].Fraction * float64(n-1))
	return Rank{uint64(rank), fraction}, true
}

// AppendQuantile appends the quantile of spec i. number is the number at index r.Index, and next is
// the number after it.
func (p *Program) AppendQuantile(dst []byte, i int, r Rank, number, next Number) ([]byte, error) {
	if r.fraction == 0 || number.Compare(next) == 0 {
		return p.specs[i].appendNumber(dst, number)
	}
	a, b := number.Float64(), next.Float64()
	result := a + float64((b-a)*r.fraction) // float64 prevents a fused operation
	if !isFinite(result) {                  // b-a has overflowed
		result = float64(a*(1-r.fraction)) + float64(b*r.fraction)
	}
	return p.specs[i].appendNumber(dst, Float(result))
}
