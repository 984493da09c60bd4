package transform

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/internal/schema"
)

// interpolation fills bins with straight lines between values. As with pandas' default, rows
// and labels are equally far from each other, whatever their times. What a line goes to may
// be far behind the bins that can be held: such knots are found when the rows come first,
// of which one for a batch of bins is kept, and used when they come again.
type interpolation struct {
	*filling
	columns []*array.Float64
	at      int64 // how many rows and labels there were, those of one time once
	places  []int64
	lines   []line
	second  bool
}

// line is a column's.
type line struct {
	values []float64 // of the first bins that are held; NaN: none
	last   *knot
	open   bool   // bins behind last were handed on
	far    []knot // that follow open lines
}

type knot struct {
	at    int64
	value float64
}

func (p *interpolation) begin(columns []arrow.Array) error {
	p.columns = p.columns[:0]
	for _, c := range columns {
		as, err := schema.ConvertArray(c, float)
		if err != nil {
			return err
		}
		p.columns = append(p.columns, as.(*array.Float64))
	}
	return nil
}

func (p *interpolation) fill(int) {
	p.places = append(p.places, p.at)
	if !p.isNext || p.next != p.label {
		p.at++
	}
}

func (p *interpolation) row(row int) {
	for i, c := range p.columns {
		l := &p.lines[i]
		if c.IsNull(row) {
			continue
		}
		to := &knot{p.at, c.Value(row)}
		l.goTo(to, p.places)
		if l.open && p.second {
			l.far = l.far[1:]
		} else if l.open {
			l.far = append(l.far, *to)
		}
		l.last, l.open = to, false
	}
	p.at++
}

// goTo adds the values of bins up to a knot, which is nil if there is none.
func (l *line) goTo(to *knot, places []int64) {
	for _, at := range places[len(l.values):] {
		value := math.NaN()
		switch {
		case to != nil && at == to.at:
			value = to.value
		case l.last != nil && to == nil:
			value = l.last.value
		case l.last != nil:
			value = l.last.to(to, at)
		}
		l.values = append(l.values, value)
	}
}

// to is what lies on the way to another knot, with the roundings of NumPy's interp.
func (k *knot) to(other *knot, at int64) float64 {
	slope := (other.value - k.value) / float64(other.at-k.at)
	value := float64(slope*float64(at-k.at)) + k.value
	if math.IsNaN(value) {
		value = float64(slope*float64(at-other.at)) + other.value
	}
	if math.IsNaN(value) && k.value == other.value {
		value = k.value
	}
	return value
}

func (p *interpolation) flush() error {
	columns := make([]arrow.Array, len(p.lines))
	for i := range p.lines {
		l := &p.lines[i]
		if l.last != nil && len(l.values) < len(p.places) {
			l.open = true
		}
		var to *knot
		if l.open && len(l.far) > 0 {
			to = &l.far[0]
		}
		l.goTo(to, p.places)
		if p.second {
			columns[i] = nullable(l.values)
		}
		l.values = l.values[:0]
	}
	numbers := p.numbers
	p.places, p.numbers = p.places[:0], p.numbers[:0]
	if !p.second || len(numbers) == 0 {
		return nil
	}
	return p.hand(numbers, columns)
}

func nullable(values []float64) arrow.Array {
	b := array.NewFloat64Builder(memory.DefaultAllocator)
	defer b.Release()
	for _, v := range values {
		if math.IsNaN(v) {
			b.AppendNull()
		} else {
			b.Append(v)
		}
	}
	return b.NewArray()
}

func (p *interpolation) end() error {
	for _, c := range p.columns {
		c.Release()
	}
	return nil
}

func (p *interpolation) again() {
	p.second, p.at = true, 0
	for i := range p.lines {
		p.lines[i].last, p.lines[i].open = nil, false
	}
}
