package filter

import (
	"cmp"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/go-partd/partd/tables/internal/schema"
)

// outcomesOf returns what the condition comes to of each row.
func (c *Condition) outcomesOf(rows int, column func(name string) arrow.Array) ([]outcomes, error) {
	return c.root.outcomes(func(n *boundNode) ([]outcomes, error) {
		out := make([]outcomes, rows)
		a, err := looked(column, n.name, n.as, !n.against)
		if err != nil {
			return nil, err
		}
		defer a.Release()
		if n.op == opNull {
			for i := range out {
				if out[i] = fails; a.IsNull(i) {
					out[i] = holds
				}
			}
			return out, nil
		}
		n.compare(out, a)
		if n.against {
			b, err := looked(column, n.otherName, n.otherAs, false)
			if err != nil {
				return nil, err
			}
			defer b.Release()
			n.compareColumns(out, a, b)
			nullsOf(out, b)
		}
		nullsOf(out, a)
		return out, nil
	})
}

// looked returns a column in the type as which it is compared, or as codes for values of it.
func looked(column func(string) arrow.Array, name string, as arrow.DataType, codes bool) (arrow.Array, error) {
	a := column(name)
	if as == nil || codes && coded(a, as) {
		a.Retain()
		return a, nil
	}
	converted, err := schema.ConvertArray(a, as)
	if err != nil {
		return nil, fmt.Errorf("filter: column %q: %w", name, err)
	}
	return converted, nil
}

// coded reports whether a column is one of codes for values of a type.
func coded(a arrow.Array, as arrow.DataType) bool {
	d, ok := a.(*array.Dictionary)
	if !ok || d.Dictionary().NullN() > 0 || !arrow.TypeEqual(d.Dictionary().DataType(), as) {
		return false
	}
	_, ok = d.Indices().(*array.Int32)
	return ok
}

func nullsOf(out []outcomes, a arrow.Array) {
	if a.NullN() == 0 {
		return
	}
	for i := range out {
		if a.IsNull(i) {
			out[i] = unknown
		}
	}
}

// compare compares a column with values.
func (n *boundNode) compare(out []outcomes, column arrow.Array) {
	switch n.op {
	case opAll, opNone:
		is := holds
		if n.op == opNone {
			is = fails
		}
		for i := range out {
			out[i] = is
		}
		return
	}
	if n.against {
		return
	}
	switch a := column.(type) {
	case *array.Dictionary: // the codes of nulls may be any
		of := make([]outcomes, a.Dictionary().Len())
		n.compare(of, a.Dictionary())
		for i, code := range a.Indices().(*array.Int32).Int32Values() {
			if uint64(code) < uint64(len(of)) {
				out[i] = of[code]
			}
		}
	case *array.Int32:
		numbers(n, out, a.Int32Values())
	case *array.Int64:
		numbers(n, out, a.Int64Values())
	case *array.Date32:
		numbers(n, out, a.Date32Values())
	case *array.Time64:
		numbers(n, out, a.Time64Values())
	case *array.Timestamp:
		numbers(n, out, a.TimestampValues())
	case *array.Float32:
		numbers(n, out, a.Float32Values())
	case *array.Float64:
		numbers(n, out, a.Float64Values())
	case *array.Boolean:
		each(n, out, func(i int) int { return one(a.Value(i)) }, func(v value) int { return int(v.whole) }, ordered)
	case *array.Decimal128:
		each(n, out, a.Value, func(v value) decimal128.Num { return v.decimal }, orderedDecimals)
	case *array.String:
		if n.op == opLike {
			for i := range out {
				if out[i] = fails; n.like.matches(a.Value(i)) {
					out[i] = holds
				}
			}
			return
		}
		each(n, out, a.Value, func(v value) string { return v.text }, ordered)
	case *array.Binary:
		each(n, out, a.ValueString, func(v value) string { return v.text }, ordered)
	}
}

// numbers is each for values that lie beside each other in memory.
func numbers[T ~int32 | ~int64 | ~float32 | ~float64](n *boundNode, out []outcomes, column []T) {
	literal := func(v value) T {
		if arrow.IsFloating(n.as.ID()) {
			return T(v.float)
		}
		return T(v.whole)
	}
	if n.op == opIn {
		each(n, out, func(i int) T { return column[i] }, literal, nil)
		return
	}
	v, is := literal(n.values[0]), after[n.op]
	for i, c := range column { // without a branch, which would often go the other way
		out[i] = is[(unordered-(unordered-less)*one(c < v)-(unordered-same)*one(c == v)-(unordered-greater)*one(c > v))&3]
	}
}

// each compares all values of a column.
func each[T comparable](n *boundNode, out []outcomes, column func(int) T, literal func(value) T, order func(a, b T) int) {
	if n.op != opIn {
		v, is := literal(n.values[0]), after[n.op]
		for i := range out {
			out[i] = is[order(column(i), v)]
		}
		return
	}
	set := make(map[T]bool, len(n.values))
	for _, v := range n.values {
		set[literal(v)] = true
	}
	for i := range out {
		if out[i] = fails; set[column(i)] {
			out[i] = holds
		}
	}
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func ordered[T cmp.Ordered](a, b T) int {
	switch {
	case a < b:
		return less
	case a == b:
		return same
	case a > b:
		return greater
	}
	return unordered
}

func orderedDecimals(a, b decimal128.Num) int { return a.Cmp(b) + same }

// outcomes is what a condition may come to, of a row one of these, and of many rows
// all that occur. Logic has SQL's three values.
type outcomes uint8

const (
	holds outcomes = 1 << iota
	fails
	unknown // it was compared with a null
)

// both returns what a and b may come to, together.
func both(a, b outcomes) outcomes {
	out := a&b&holds | (a|b)&fails
	if a&unknown != 0 && b&(holds|unknown) != 0 || b&unknown != 0 && a&holds != 0 {
		out |= unknown
	}
	return out
}

// not returns what the opposite of a may come to.
func not(a outcomes) outcomes { return a&holds<<1 | a&fails>>1 | a&unknown }

// Of two values one may be less, equal or greater, or one of them is a NaN.
const (
	less = iota
	same
	greater
	unordered
)

// after are the outcomes of the comparisons.
var after = map[operator][4]outcomes{
	opEq: {fails, holds, fails, fails}, opNe: {holds, fails, holds, holds},
	opLt: {holds, fails, fails, fails}, opLe: {holds, holds, fails, fails},
	opGt: {fails, fails, holds, fails}, opGe: {fails, holds, holds, fails},
}

// outcomes returns what a node comes to, of as many rows, or groups of rows, as leaf
// returns for each comparison.
func (n *boundNode) outcomes(leaf func(*boundNode) ([]outcomes, error)) ([]outcomes, error) {
	if len(n.parts) == 0 {
		return leaf(n)
	}
	all, err := n.parts[0].outcomes(leaf)
	if err != nil {
		return nil, err
	}
	if n.op == opNot {
		for i, a := range all {
			all[i] = not(a)
		}
		return all, nil
	}
	for _, part := range n.parts[1:] {
		more, err := part.outcomes(leaf)
		if err != nil {
			return nil, err
		}
		for i, b := range more {
			if n.op == opAnd {
				all[i] = both(all[i], b)
			} else {
				all[i] = not(both(not(all[i]), not(b)))
			}
		}
	}
	return all, nil
}
