package transform

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/take"
)

// mostFilled bounds the bytes of what is handed on together: a row may be large, and
// fill many bins.
const mostFilled = 16 << 20

// nearby fills bins with rows as they are.
type nearby struct {
	*filling
	columns []arrow.Array // of the rows in work
	before  []arrow.Array // the last row before them, or nulls
	rows    []int         // of the bins, where 0 is the one before
}

func (n *nearby) begin(columns []arrow.Array) error {
	n.columns = columns
	for i := len(n.before); i < len(columns); i++ {
		n.before = append(n.before, array.MakeArrayOfNull(memory.DefaultAllocator, columns[i].DataType(), 1))
	}
	return nil
}

func (n *nearby) fill(row int) {
	how, of := n.filler(), -1
	switch {
	case n.isNext && n.next == n.label:
		of = row + 1
	case n.any && (how == "ffill" || how == "nearest" && (!n.isNext || uint64(n.label-n.last) < uint64(n.next-n.label))):
		of = row
	case n.isNext && (how == "bfill" || how == "nearest"):
		of = row + 1
	}
	n.rows = append(n.rows, of)
}

func (n *nearby) row(int) {}

func (n *nearby) again() {}

// flush takes the rows of the bins so far.
func (n *nearby) flush() error {
	if len(n.rows) == 0 {
		return nil
	}
	pool := make([]arrow.Array, len(n.before))
	size := int64(1)
	for i, before := range n.before {
		parts := []arrow.Array{before}
		if n.columns != nil {
			parts = append(parts, n.columns[i])
		}
		var err error
		if pool[i], err = array.Concatenate(parts, memory.DefaultAllocator); err != nil {
			return err
		}
		defer pool[i].Release()
		size += widest(pool[i])
	}
	for most := max(1, int(mostFilled/size)); len(n.rows) > 0 && !n.ended; {
		k := min(most, len(n.rows))
		columns := make([]arrow.Array, len(pool))
		for i, c := range pool {
			taken, err := take.Rows(c, n.rows[:k])
			if err != nil {
				return err
			}
			defer taken.Release()
			if columns[i], err = schema.ConvertArray(taken, n.schema.Field(i+1).Type); err != nil {
				return err
			}
		}
		if err := n.hand(n.numbers[:k], columns); err != nil {
			return err
		}
		n.rows, n.numbers = n.rows[k:], n.numbers[k:]
	}
	return nil
}

// end keeps the last row.
func (n *nearby) end() error {
	if err := n.flush(); err != nil {
		return err
	}
	for i, c := range n.columns {
		last, err := take.Rows(c, []int{c.Len() - 1})
		if err != nil {
			return err
		}
		n.before[i].Release()
		n.before[i] = last
	}
	n.columns = nil
	return nil
}

// widest is how many bytes the largest of some values has, or more.
func widest(a arrow.Array) (most int64) {
	switch a := a.(type) {
	case array.BinaryLike:
		for i := range a.Len() {
			most = max(most, int64(a.ValueLen(i)))
		}
		return most
	}
	if t, ok := a.DataType().(arrow.FixedWidthDataType); ok {
		return int64(t.BitWidth()+7) / 8
	}
	return util.TotalArraySize(a)
}

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
