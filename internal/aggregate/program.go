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

	specs   []Spec
	places  []place // of the specs
	numeric []bool  // by column: numbers are needed
	steps   []step
}

// place says where in the state the words of a result are; of Mean, two.
type place struct{ at, count int }

// step changes a part of a state for a value of a column.
type step struct {
	do  stepKind
	col int
	at  int
}

type stepKind uint8

const (
	stepCount stepKind = iota
	stepSum
	stepMin
	stepMax
	stepSpread
)

var stepWords = [...]int{stepCount: 1, stepSum: sumWords, stepMin: extremeWords, stepMax: extremeWords, stepSpread: spreadWords}

// NewProgram returns a program for specs, of which columns are the columns: the
// places of their values among those that Add gets, -1 for none. Specs that are
// neither numbers nor counts are passed over.
func NewProgram(specs []Spec, columns []int) *Program {
	p := &Program{specs: specs, places: make([]place, len(specs))}
	for i, s := range specs {
		col := columns[i]
		switch {
		case s.Func == Count && col >= 0:
			p.places[i].at = p.need(stepCount, col)
		case s.Func == Sum:
			p.places[i].at = p.need(stepSum, col)
		case s.Func == Mean:
			p.places[i] = place{p.need(stepSum, col), p.need(stepCount, col)}
		case s.Func == Min && !s.Bytes:
			p.places[i].at = p.need(stepMin, col)
		case s.Func == Max && !s.Bytes:
			p.places[i].at = p.need(stepMax, col)
		case s.Func == Stddev:
			p.places[i].at = p.need(stepSpread, col)
		}
	}
	return p
}

// need returns where the state of a step is. Several results share it.
func (p *Program) need(do stepKind, col int) int {
	for _, s := range p.steps {
		if s.do == do && s.col == col {
			return s.at
		}
	}
	s := step{do, col, p.Words}
	p.steps = append(p.steps, s)
	p.Words += stepWords[do]
	for len(p.numeric) <= col {
		p.numeric = append(p.numeric, false)
	}
	if do != stepCount {
		p.numeric[col] = true
	}
	return s.at
}

// Numbers reads the values of a record that have to be numbers. A value that is
// empty is missing. It returns the column of the first that is neither, -1 for
// none. Numbers has room for each column.
func (p *Program) Numbers(values [][]byte, numbers []Number) int {
	for col, needed := range p.numeric {
		if needed && len(values[col]) > 0 {
			n, ok := ParseNumber(values[col])
			if !ok {
				return col
			}
			numbers[col] = n
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
		}
	}
}

// ErrRange is wrapped by the error for a result that no float64 holds.
var ErrRange = errors.New("the numbers are too large: beyond the range of a 64-bit float (1.8e308), if only on the way to the result")

// Append appends the result of spec i for a group of records. It returns what it
// got if there is none: of no values there is no sum.
func (p *Program) Append(dst []byte, i int, state []uint64, records uint64) ([]byte, error) {
	s, at := p.specs[i], p.places[i]
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
	case s.Func == Stddev:
		var f float64
		f, ok = deviationOf(w)
		n = Float(f)
	default:
		panic(fmt.Sprintf("%s is not a number", s.Text))
	}
	if !ok {
		return dst, nil
	}
	if n.Float && !isFinite(math.Float64frombits(n.Lo)) {
		return dst, fmt.Errorf("%s: %w", s.Text, ErrRange)
	}
	return n.Append(dst), nil
}

func isFinite(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }
