package filter

import (
	"encoding/binary"
	"math"
	"reflect"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/base/where"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// Bounds describes the values of a column in a group of rows. All values are between Min and Max, but need not include
// Min and Max. Both are encoded as in Iceberg and Parquet; nil means unknown.
type Bounds struct {
	Min, Max    []byte
	Rows, Nulls int64 // a negative Nulls means unknown
}

// May reports whether the condition may be true for some row of a group, and whether it may be false or null for some
// row. bounds must return the bounds of a column in the group.
func (c *Condition) May(bounds func(column string) Bounds) (mayHold, mayFail bool) {
	if c == nil || c.root == nil {
		return true, false
	}
	all, _ := c.root.evaluate(func(n *boundNode) ([]outcomeSet, error) {
		return []outcomeSet{n.outcomesWithin(bounds(n.name))}, nil
	})
	return all[0]&holds != 0, all[0]&(fails|unknown) != 0
}

// outcomesWithin returns the possible outcomes of the comparison n for the rows that b describes.
func (n *boundNode) outcomesWithin(b Bounds) (out outcomeSet) {
	mayHaveNulls, mayHaveValues := b.Nulls != 0, b.Nulls < 0 || b.Nulls < b.Rows
	if n.comparesColumns {
		return holds | fails | unknown // the bounds of two columns are not compared
	}
	switch n.op {
	case where.Null:
		if mayHaveNulls {
			out |= holds
		}
		if mayHaveValues {
			out |= fails
		}
		return out
	case opAll, opNone:
		out = outcomeOf[n.op][same]
	case where.Like:
		out = likeWithin(n.like.Prefix, b)
	default:
		out = n.compareBounds(b)
	}
	if !mayHaveValues {
		out = 0
	}
	if mayHaveNulls {
		out |= unknown
	}
	return out
}

// compareBounds returns the possible outcomes of the comparison n for non-null values between the bounds.
func (n *boundNode) compareBounds(b Bounds) (out outcomeSet) {
	if n.op == where.In {
		out = fails
	}
	for _, v := range n.values {
		minOrder, minKnown := n.order(b.Min, v)
		maxOrder, maxKnown := n.order(b.Max, v)
		var possible [4]bool
		possible[less] = !minKnown || minOrder == less
		possible[greater] = !maxKnown || maxOrder == greater
		possible[same] = (!minKnown || minOrder != greater) && (!maxKnown || maxOrder != less)
		possible[unordered] = arrow.IsFloating(n.typ.ID())
		if n.op == where.In {
			if possible[same] {
				out |= holds
			}
			continue
		}
		for order, isPossible := range possible {
			if isPossible {
				out |= outcomeOf[n.op][order]
			}
		}
	}
	return out
}

// order compares a bound with a value. ok is false if the bound is unknown.
func (n *boundNode) order(bound []byte, v value) (order int, ok bool) {
	b, ok := decodeBound(n.typ, bound)
	return b.order(n.typ, v), ok
}

// Overlap reports whether two columns of type t, with bounds a and b, may have a common value.
func Overlap(t arrow.DataType, a, b Bounds) bool {
	disjoint := func(high, low []byte) bool {
		x, okX := decodeBound(t, high)
		y, okY := decodeBound(t, low)
		return okX && okY && x.order(t, y) == less
	}
	return !disjoint(a.Max, b.Min) && !disjoint(b.Max, a.Min)
}

func (v value) order(t arrow.DataType, w value) int {
	switch row := arrowtype.Of(t); {
	case row.Kind == arrowtype.Float:
		return compareValues(v.float, w.float)
	case row.Native == reflect.String:
		return compareValues(v.text, w.text)
	}
	return compareValues(v.integer, w.integer)
}

// decodeBound decodes a bound. ok is false if the bound is nil or invalid, or if its type is not supported.
func decodeBound(t arrow.DataType, bound []byte) (v value, ok bool) {
	var bits uint64
	switch len(bound) { // a 64-bit column can have 4-byte bounds, from when it was a 32-bit column
	case 4:
		bits = uint64(binary.LittleEndian.Uint32(bound))
	case 8:
		bits = binary.LittleEndian.Uint64(bound)
	}
	// A 4-byte bound of a timestamp column is a number of days, from when it was a date column, and is not used.
	isNumber := len(bound) == 8 || len(bound) == 4 && t.ID() != arrow.TIMESTAMP
	switch arrowtype.Of(t).Native {
	case reflect.String:
		return value{text: string(bound)}, bound != nil
	case reflect.Int32, reflect.Int64:
		v.integer = int64(bits)
		if len(bound) == 4 {
			v.integer = int64(int32(bits))
		}
		return v, isNumber
	case reflect.Float32, reflect.Float64:
		v.float = math.Float64frombits(bits)
		if len(bound) == 4 {
			v.float = float64(math.Float32frombits(uint32(bits)))
		}
		return v, isNumber && !math.IsNaN(v.float)
	}
	return v, false
}

// likeWithin returns the possible outcomes of the operator "like" for strings between the bounds. The pattern begins
// with prefix.
func likeWithin(prefix string, b Bounds) outcomeSet {
	tooSmall := b.Max != nil && string(b.Max) < prefix
	tooLarge := b.Min != nil && string(b.Min) > prefix && !strings.HasPrefix(string(b.Min), prefix)
	if tooSmall || tooLarge {
		return fails
	}
	return holds | fails
}
