package filter

import (
	"cmp"
	"fmt"
	"reflect"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/go-partd/partd/internal/base/where"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

func (c *Condition) outcomesOf(rows int, column func(name string) arrow.Array) ([]outcomeSet, error) {
	return c.root.evaluate(func(n *boundNode) ([]outcomeSet, error) {
		out := make([]outcomeSet, rows)
		a, err := columnAs(column, n.name, n.typ, !n.comparesColumns)
		if err != nil {
			return nil, err
		}
		defer a.Release()
		if n.op == where.Null {
			for i := range out {
				out[i] = fails
				if a.IsNull(i) {
					out[i] = holds
				}
			}
			return out, nil
		}
		n.compare(out, a)
		if n.comparesColumns {
			b, err := columnAs(column, n.otherName, n.otherType, false)
			if err != nil {
				return nil, err
			}
			defer b.Release()
			n.compareColumns(out, a, b)
			markNulls(out, b)
		}
		markNulls(out, a)
		return out, nil
	})
}

// columnAs returns a column converted to the type typ. If keepCodes is true, it may instead return a
// dictionary-encoded column whose dictionary has the type typ.
func columnAs(column func(string) arrow.Array, name string, typ arrow.DataType, keepCodes bool) (arrow.Array, error) {
	a := column(name)
	if typ == nil || keepCodes && isEncoded(a, typ) {
		a.Retain()
		return a, nil
	}
	converted, err := schema.ConvertArray(a, typ)
	if err != nil {
		return nil, fmt.Errorf("filter: column %q: %w", name, err)
	}
	return converted, nil
}

// isEncoded reports whether a column is dictionary-encoded, with 32-bit codes and a dictionary of type typ without
// nulls.
func isEncoded(a arrow.Array, typ arrow.DataType) bool {
	d, ok := a.(*array.Dictionary)
	if !ok || d.Dictionary().NullN() > 0 || !arrow.TypeEqual(d.Dictionary().DataType(), typ) {
		return false
	}
	_, ok = d.Indices().(*array.Int32)
	return ok
}

func markNulls(out []outcomeSet, a arrow.Array) {
	if a.NullN() == 0 {
		return
	}
	for i := range out {
		if a.IsNull(i) {
			out[i] = unknown
		}
	}
}

// compare compares each row of a column with the node's values and stores the outcomes in out. The caller must then set
// the outcomes of nulls.
func (n *boundNode) compare(out []outcomeSet, column arrow.Array) {
	switch n.op {
	case opAll, opNone:
		outcome := outcomeOf[n.op][same]
		for i := range out {
			out[i] = outcome
		}
		return
	}
	if n.comparesColumns {
		return
	}
	if d, ok := column.(*array.Dictionary); ok { // the code of a null is arbitrary, so it may be out of range
		valueOutcomes := make([]outcomeSet, d.Dictionary().Len())
		n.compare(valueOutcomes, d.Dictionary())
		for i, code := range d.Indices().(*array.Int32).Int32Values() {
			if uint64(code) < uint64(len(valueOutcomes)) {
				out[i] = valueOutcomes[code]
			}
		}
		return
	}
	literalText := func(v value) string { return v.text }
	switch t, data := arrowtype.Of(column.DataType()), column.Data(); t.Native {
	case reflect.Int32:
		compareSlice(n, out, arrow.GetValues[int32](data, 1))
	case reflect.Int64:
		compareSlice(n, out, arrow.GetValues[int64](data, 1))
	case reflect.Float32:
		compareSlice(n, out, arrow.GetValues[float32](data, 1))
	case reflect.Float64:
		compareSlice(n, out, arrow.GetValues[float64](data, 1))
	case reflect.Bool:
		compareEach(n, out, t.Ints(column), func(v value) int64 { return v.integer }, compareValues)
	case reflect.String:
		texts, isText := column.(*array.String)
		switch {
		case !isText:
			compareEach(n, out, column.(*array.Binary).ValueString, literalText, compareValues)
		case n.op != where.Like:
			compareEach(n, out, texts.Value, literalText, compareValues)
		default:
			for i := range out {
				out[i] = fails
				if n.like.Matches(texts.Value(i)) {
					out[i] = holds
				}
			}
		}
	default: // a decimal
		compareEach(n, out, t.Decimals(column), func(v value) decimal128.Num { return v.decimal }, compareDecimals)
	}
}

// compareSlice does the same as compareEach, for columns whose values are stored in a slice.
func compareSlice[T ~int32 | ~int64 | ~float32 | ~float64](n *boundNode, out []outcomeSet, column []T) {
	literal := func(v value) T {
		if arrow.IsFloating(n.typ.ID()) {
			return T(v.float)
		}
		return T(v.integer)
	}
	if n.op == where.In {
		compareEach(n, out, func(i int) T { return column[i] }, literal, nil)
		return
	}
	v := literal(n.values[0])
	switch n.op { // fails-1 is holds; the loops avoid branches, which the CPU would often mispredict
	case where.Eq:
		for i, c := range column {
			out[i] = fails - outcomeSet(toInt(c == v))
		}
	case where.Ne:
		for i, c := range column {
			out[i] = fails - outcomeSet(toInt(c != v))
		}
	case where.Lt:
		for i, c := range column {
			out[i] = fails - outcomeSet(toInt(c < v))
		}
	case where.Le:
		for i, c := range column {
			out[i] = fails - outcomeSet(toInt(c <= v))
		}
	case where.Gt:
		for i, c := range column {
			out[i] = fails - outcomeSet(toInt(c > v))
		}
	case where.Ge:
		for i, c := range column {
			out[i] = fails - outcomeSet(toInt(c >= v))
		}
	}
}

// compareEach compares each row of a column with the node's values and stores the outcomes in out. literal converts a
// value to T. order is not used for where.In.
func compareEach[T comparable](n *boundNode, out []outcomeSet, column func(int) T, literal func(value) T, order func(a, b T) int) {
	if n.op != where.In {
		v, outcomeByOrder := literal(n.values[0]), outcomeOf[n.op]
		for i := range out {
			out[i] = outcomeByOrder[order(column(i), v)]
		}
		return
	}
	set := make(map[T]bool, len(n.values))
	for _, v := range n.values {
		set[literal(v)] = true
	}
	for i := range out {
		out[i] = fails
		if set[column(i)] {
			out[i] = holds
		}
	}
}

func toInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func compareValues[T cmp.Ordered](a, b T) int {
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

// Cmp returns -1, 0 or 1, and less, same and greater are consecutive in this order.
func compareDecimals(a, b decimal128.Num) int { return a.Cmp(b) + same }

// outcomeSet is a set of outcomes of a condition: for a row, its only outcome; for a group of rows, all possible
// outcomes.
type outcomeSet uint8

const (
	holds outcomeSet = 1 << iota
	fails
	unknown // the result is null

	allOutcomes = holds | fails | unknown
)

func andOutcomes(a, b outcomeSet) outcomeSet { return andTable[a<<3|b] }

// andTable contains the result of andOutcomes at a<<3|b.
var andTable = func() (t [256]outcomeSet) {
	for a := range allOutcomes + 1 {
		for b := range allOutcomes + 1 {
			t[a<<3|b] = computeAnd(a, b)
		}
	}
	return t
}()

// computeAnd returns the outcomes that "and" can have. It holds only if both sides can hold, fails if one side can
// fail, and is unknown if one side can be unknown while the other can hold or be unknown.
func computeAnd(a, b outcomeSet) outcomeSet {
	out := a&b&holds | (a|b)&fails
	if a&unknown != 0 && b&(holds|unknown) != 0 || b&unknown != 0 && a&holds != 0 {
		out |= unknown
	}
	return out
}

// notOutcomes swaps the bits of holds and fails, which are adjacent.
func notOutcomes(a outcomeSet) outcomeSet { return a&holds<<1 | a&fails>>1 | a&unknown }

// Results of comparing two values: less, equal, greater, or unordered because one is NaN.
const (
	less = iota
	same
	greater
	unordered
)

// outcomeOf maps each operator to its outcomes, indexed by the result of comparing two values.
var outcomeOf = map[operator][4]outcomeSet{
	where.Eq: {fails, holds, fails, fails}, where.Ne: {holds, fails, holds, holds},
	where.Lt: {holds, fails, fails, fails}, where.Le: {holds, holds, fails, fails},
	where.Gt: {fails, fails, holds, fails}, where.Ge: {fails, holds, holds, fails},
	opAll: {holds, holds, holds, holds}, opNone: {fails, fails, fails, fails},
}

// evaluate returns a node's outcomes for each row or group of rows. leaf must return the outcomes of a node without
// parts.
func (n *boundNode) evaluate(leaf func(*boundNode) ([]outcomeSet, error)) ([]outcomeSet, error) {
	if len(n.parts) == 0 {
		return leaf(n)
	}
	result, err := n.parts[0].evaluate(leaf)
	if err != nil {
		return nil, err
	}
	if n.op == where.Not {
		for i, a := range result {
			result[i] = notOutcomes(a)
		}
		return result, nil
	}
	for _, part := range n.parts[1:] {
		partOutcomes, err := part.evaluate(leaf)
		if err != nil {
			return nil, err
		}
		if n.op == where.And {
			for i, b := range partOutcomes {
				result[i] = andOutcomes(result[i], b)
			}
			continue
		}
		for i, b := range partOutcomes {
			result[i] = notOutcomes(andOutcomes(notOutcomes(result[i]), notOutcomes(b)))
		}
	}
	return result, nil
}
