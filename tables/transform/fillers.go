package transform

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// maxFilledBytes limits the bytes in a batch of filled bins, because one large row may fill many bins.
const maxFilledBytes = 16 << 20

// rowFiller fills bins with copies of rows.
type rowFiller struct {
	*fillScan
	columns  []arrow.Array // columns of the current batch of rows
	previous []arrow.Array // last row of the previous batch, or nulls for the first batch
	// for each bin, the row that fills it: i+1 means row i of the batch, 0 means previous, and -1 means none
	rows []int
}

func (n *rowFiller) begin(columns []arrow.Array) error {
	n.columns = columns
	for i := len(n.previous); i < len(columns); i++ {
		n.previous = append(n.previous, array.MakeArrayOfNull(memory.DefaultAllocator, columns[i].DataType(), 1))
	}
	return nil
}

func (n *rowFiller) fill(row int) {
	function, source := n.fillFunction(), -1
	before, after := row, row+1 // the adjacent rows as entries of n.rows: row-1 and row
	switch {
	case n.hasNext && n.nextTime == n.label:
		source = after
	case n.hasLast && (function == "ffill" || function == "nearest" && (!n.hasNext || uint64(n.label-n.lastTime) < uint64(n.nextTime-n.label))):
		source = before
	case n.hasNext && (function == "bfill" || function == "nearest"):
		source = after
	}
	n.rows = append(n.rows, source)
}

func (n *rowFiller) visit(int) {}

func (n *rowFiller) restart() {}

func (n *rowFiller) flush() (err error) {
	if len(n.rows) == 0 {
		return nil
	}
	pool := make([]arrow.Array, len(n.previous))
	size := int64(1)
	for i, previousRow := range n.previous {
		parts := []arrow.Array{previousRow}
		if n.columns != nil {
			parts = append(parts, n.columns[i])
		}
		pool[i], err = array.Concatenate(parts, memory.DefaultAllocator)
		if err != nil {
			return err
		}
		defer pool[i].Release()
		size += maxValueSize(pool[i])
	}
	for maxRows := max(1, int(maxFilledBytes/size)); len(n.rows) > 0 && !n.stopped; {
		k := min(maxRows, len(n.rows))
		columns := make([]arrow.Array, len(pool))
		for i, c := range pool {
			taken, err := take.Rows(c, n.rows[:k])
			if err != nil {
				return err
			}
			defer taken.Release()
			columns[i], err = schema.ConvertArray(taken, n.schema.Field(i+1).Type)
			if err != nil {
				return err
			}
		}
		if err := n.emit(n.binIndexes[:k], columns); err != nil {
			return err
		}
		n.rows, n.binIndexes = n.rows[k:], n.binIndexes[k:]
	}
	return nil
}

// end keeps the last row, which may fill bins in the next batch.
func (n *rowFiller) end() error {
	if err := n.flush(); err != nil {
		return err
	}
	for i, c := range n.columns {
		last, err := take.Rows(c, []int{c.Len() - 1})
		if err != nil {
			return err
		}
		n.previous[i].Release()
		n.previous[i] = last
	}
	n.columns = nil
	return nil
}

// maxValueSize returns an upper bound on the size of the largest value in a, in bytes.
func maxValueSize(a arrow.Array) (size int64) {
	if texts, ok := a.(array.BinaryLike); ok {
		for i := range a.Len() {
			size = max(size, int64(texts.ValueLen(i)))
		}
		return size
	}
	if t, ok := a.DataType().(arrow.FixedWidthDataType); ok {
		return int64(t.BitWidth()+7) / 8
	}
	return util.TotalArraySize(a)
}

// interpolator fills bins along straight lines between values. As in pandas by default, the distance between adjacent
// rows and labels is always the same, whatever their times. A line may end long after its first bins must be emitted,
// so interpolator reads all rows twice. The first pass emits nothing, but records the ends of the lines that are open
// (have not ended) at a flush. The second pass uses these ends.
type interpolator struct {
	*fillScan
	columns      []*array.Float64
	position     int64   // number of rows and labels visited; a row and a label with the same time count once
	positions    []int64 // position of each bin filled since the last flush
	lines        []line
	isSecondPass bool
}

// line is the state of one column.
type line struct {
	values   []float64 // values computed so far, for the first bins in positions; NaN means null
	last     *knot     // the last non-null value, or nil
	isOpen   bool      // whether bins after last were flushed before the line ended
	openEnds []knot    // ends of the open lines, in order
}

// knot is a value at which one line ends and the next begins.
type knot struct {
	position int64
	value    float64
}

func (p *interpolator) begin(columns []arrow.Array) error {
	p.columns = p.columns[:0]
	for _, c := range columns {
		converted, err := schema.ConvertArray(c, float64Type)
		if err != nil {
			return err
		}
		p.columns = append(p.columns, converted.(*array.Float64))
	}
	return nil
}

func (p *interpolator) fill(int) {
	p.positions = append(p.positions, p.position)
	if !p.hasNext || p.nextTime != p.label {
		p.position++
	}
}

func (p *interpolator) visit(row int) {
	for i, c := range p.columns {
		l := &p.lines[i]
		if c.IsNull(row) {
			continue
		}
		endKnot := &knot{p.position, c.Value(row)}
		l.extend(endKnot, p.positions)
		if l.isOpen && p.isSecondPass {
			l.openEnds = l.openEnds[1:]
		} else if l.isOpen {
			l.openEnds = append(l.openEnds, *endKnot)
		}
		l.last, l.isOpen = endKnot, false
	}
	p.position++
}

// extend appends the values for the bins up to endKnot, or for all bins in positions if endKnot is nil.
func (l *line) extend(endKnot *knot, positions []int64) {
	for _, position := range positions[len(l.values):] {
		value := math.NaN()
		switch {
		case endKnot != nil && position == endKnot.position:
			value = endKnot.value
		case l.last != nil && endKnot == nil:
			value = l.last.value
		case l.last != nil:
			value = l.last.interpolate(endKnot, position)
		}
		l.values = append(l.values, value)
	}
}

// interpolate returns the value at a position between two knots, with the same rounding as NumPy's interp.
func (k *knot) interpolate(other *knot, position int64) float64 {
	slope := (other.value - k.value) / float64(other.position-k.position)
	value := float64(slope*float64(position-k.position)) + k.value
	if math.IsNaN(value) {
		value = float64(slope*float64(position-other.position)) + other.value
	}
	if math.IsNaN(value) && k.value == other.value {
		value = k.value
	}
	return value
}

func (p *interpolator) flush() error {
	columns := make([]arrow.Array, len(p.lines))
	for i := range p.lines {
		l := &p.lines[i]
		if l.last != nil && len(l.values) < len(p.positions) {
			l.isOpen = true
		}
		var endKnot *knot
		if l.isOpen && len(l.openEnds) > 0 {
			endKnot = &l.openEnds[0]
		}
		l.extend(endKnot, p.positions)
		if p.isSecondPass {
			columns[i] = nanAsNull(l.values)
		}
		l.values = l.values[:0]
	}
	binIndexes := p.binIndexes
	p.positions, p.binIndexes = p.positions[:0], p.binIndexes[:0]
	if !p.isSecondPass || len(binIndexes) == 0 {
		return nil
	}
	return p.emit(binIndexes, columns)
}

func nanAsNull(values []float64) arrow.Array {
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

func (p *interpolator) end() error {
	take.Release(p.columns)
	return nil
}

func (p *interpolator) restart() {
	p.isSecondPass, p.position = true, 0
	for i := range p.lines {
		p.lines[i].last, p.lines[i].isOpen = nil, false
	}
}
