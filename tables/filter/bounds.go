package filter

import (
	"encoding/binary"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
)

// Bounds describes the values of a column in a group of rows that has not been read. Least
// and Most are encoded as Iceberg and Parquet encode them; nil means unknown. Least may be
// below all values, and Most above them.
type Bounds struct {
	Least, Most []byte
	Rows, Nulls int64 // a negative Nulls means unknown
}

// May reports whether any row of a group may satisfy the condition, and whether any may
// not, because it is false or null there. The function column returns the bounds of a
// column of the schema.
func (c *Condition) May(column func(name string) Bounds) (hold, not bool) {
	if c.root == nil {
		return true, false
	}
	all, _ := c.root.outcomes(func(n *boundNode) ([]outcomes, error) {
		return []outcomes{n.within(column(n.name))}, nil
	})
	return all[0]&holds != 0, all[0]&(fails|unknown) != 0
}

// within returns what a comparison may come to.
func (n *boundNode) within(b Bounds) (out outcomes) {
	nulls, values := b.Nulls != 0, b.Nulls < 0 || b.Nulls < b.Rows
	if n.against {
		return holds | fails | unknown // the nulls of the other column are not looked at
	}
	switch n.op {
	case opNull:
		if nulls {
			out |= holds
		}
		if values {
			out |= fails
		}
		return out
	case opAll, opNone:
		if out = holds; n.op == opNone {
			out = fails
		}
	case opLike:
		out = n.like.within(b)
	default:
		out = n.between(b)
	}
	if !values {
		out = 0
	}
	if nulls {
		out |= unknown
	}
	return out
}

// between returns what a comparison of values within bounds may come to.
func (n *boundNode) between(b Bounds) (out outcomes) {
	if n.op == opIn {
		out = fails
	}
	for _, v := range n.values {
		below, okBelow := n.order(b.Least, v)
		above, okAbove := n.order(b.Most, v)
		var may [4]bool
		may[less] = !okBelow || below == less
		may[greater] = !okAbove || above == greater
		may[same] = (!okBelow || below != greater) && (!okAbove || above != less)
		may[unordered] = arrow.IsFloating(n.as.ID())
		if n.op == opIn {
			if may[same] {
				out |= holds
			}
			continue
		}
		for order, possible := range may {
			if possible {
				out |= after[n.op][order]
			}
		}
	}
	return out
}

// order compares a bound with a value. It is false where the bound says nothing.
func (n *boundNode) order(bound []byte, v value) (order int, ok bool) {
	b, ok := decoded(n.as, bound)
	return b.order(n.as, v), ok
}

// Overlap reports whether two columns of type t, with bounds a and b, may have a value in
// common.
func Overlap(t arrow.DataType, a, b Bounds) bool {
	apart := func(most, least []byte) bool {
		x, okX := decoded(t, most)
		y, okY := decoded(t, least)
		return okX && okY && x.order(t, y) == less
	}
	return !apart(a.Most, b.Least) && !apart(b.Most, a.Least)
}

// order compares values of a type.
func (v value) order(t arrow.DataType, w value) int {
	switch {
	case arrow.IsFloating(t.ID()):
		return ordered(v.float, w.float)
	case arrow.IsBaseBinary(t.ID()):
		return ordered(v.text, w.text)
	}
	return ordered(v.whole, w.whole)
}

// decoded returns a bound as a value of the type; false where it is none, or of a type
// whose bounds are not looked at.
func decoded(t arrow.DataType, bound []byte) (v value, ok bool) {
	var bits uint64
	switch len(bound) { // of a column that was widened they are narrower
	case 4:
		bits = uint64(binary.LittleEndian.Uint32(bound))
	case 8:
		bits = binary.LittleEndian.Uint64(bound)
	}
	number := len(bound) == 4 || len(bound) == 8
	switch t.ID() {
	case arrow.STRING, arrow.BINARY:
		return value{text: string(bound)}, bound != nil
	case arrow.INT32, arrow.INT64, arrow.DATE32, arrow.TIME64, arrow.TIMESTAMP:
		if v.whole = int64(bits); len(bound) == 4 {
			v.whole = int64(int32(bits))
		}
		return v, number
	case arrow.FLOAT32, arrow.FLOAT64:
		if v.float = math.Float64frombits(bits); len(bound) == 4 {
			v.float = float64(math.Float32frombits(uint32(bits)))
		}
		return v, number && !math.IsNaN(v.float)
	}
	return v, false
}
