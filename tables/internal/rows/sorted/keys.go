package sorted

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// column is a key column of a batch. Nulls come before all values, and NaN before all numbers.
type column interface {
	compare(i int, other column, j int) int

	// A value consists of words that sort as the values do: a value with a smaller word at depth 0 comes first. Among
	// values whose words are equal up to some depth, one with a smaller word at the next depth comes first.

	word(i int) uint64 // the word of value i at depth 0
	setWords(rows []entry, depth int)
	// isComplete reports whether values with equal words up to depth are equal. w is the word at depth.
	isComplete(w uint64, depth int) bool
}

type keys []column

func (k keys) compare(i int, other keys, j int) int {
	for keyIndex, c := range k {
		if n := c.compare(i, other[keyIndex], j); n != 0 {
			return n
		}
	}
	return 0
}

func (k keys) inOrder(n int) bool {
	if len(k) == 1 {
		if c, ok := k[0].(*ints); ok && c.NullN() == 0 { // fast path for the most common keys
			return slices.IsSorted(c.values[:n])
		}
	}
	for i := 1; i < n; i++ {
		if k.compare(i-1, k, i) > 0 {
			return false
		}
	}
	return true
}

func keysOf(batch arrow.RecordBatch, columns []int) (keys, error) {
	all := make(keys, len(columns))
	for i, index := range columns {
		all[i] = keyColumn(batch.Column(index))
		if all[i] == nil {
			return nil, fmt.Errorf("column %q of type %s has no order", batch.ColumnName(index), batch.Column(index).DataType())
		}
	}
	return all, nil
}

// HasOrder reports whether rows can be ordered by columns of type t.
func HasOrder(t arrow.DataType) bool {
	if e, ok := t.(arrow.ExtensionType); ok {
		return HasOrder(e.StorageType())
	}
	return arrowtype.Of(t).IsSorted
}

func keyColumn(a arrow.Array) column {
	a = arrowtype.Storage(a)
	t := arrowtype.Of(a.DataType())
	switch {
	case !t.IsSorted:
		return nil
	case t.Ordered != nil:
		return &ints{a, t.Ordered(a)}
	case t.Kind == arrowtype.Text:
		return &values[string]{a.(valueArray[string]), cmp.Compare[string], textWord[string], isWholeText}
	case t.Kind == arrowtype.Binary:
		return &values[[]byte]{a.(valueArray[[]byte]), bytes.Compare, textWord[[]byte], isWholeText}
	}
	return &values[decimal128.Num]{a.(valueArray[decimal128.Num]), decimal128.Num.Cmp, decimalWord, isWholeDecimal}
}

// CompareBools compares two booleans; false comes first.
func CompareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// nullable is the part of arrow.Array that reports nulls.
type nullable interface {
	IsNull(i int) bool
	NullN() int
}

// compareNulls compares two values of which at least one is null. If neither is, bothValid is true, and the caller must
// compare them.
func compareNulls(a nullable, i int, b nullable, j int) (n int, bothValid bool) {
	if a.NullN() == 0 && b.NullN() == 0 {
		return 0, true
	}
	x, y := a.IsNull(i), b.IsNull(j)
	return CompareBools(y, x), !x && !y
}

type ints struct {
	nullable
	values []int64
}

func (c *ints) compare(i int, other column, j int) int {
	o := other.(*ints)
	if n, bothValid := compareNulls(c, i, o, j); !bothValid {
		return n
	}
	return cmp.Compare(c.values[i], o.values[j])
}

func (c *ints) word(i int) uint64 {
	if c.NullN() > 0 && c.IsNull(i) {
		return 0
	}
	return max(uint64(c.values[i])^1<<63, 1)
}

func (c *ints) setWords(rows []entry, depth int) {
	for i, r := range rows {
		rows[i].Prefix = c.word(int(r.Ref))
		if depth > 0 {
			rows[i].Prefix = uint64(c.values[r.Ref]) ^ 1<<63
		}
	}
}

// isComplete returns false for the word that the smallest two numbers share.
func (c *ints) isComplete(w uint64, depth int) bool { return w != 1 || depth > 0 }

type values[T any] struct {
	array         valueArray[T]
	compareValues func(a, b T) int
	wordOf        func(v T, depth int) uint64 // at depth 0, it returns at least 1, because 0 is the word of nulls
	complete      func(w uint64, depth int) bool
}

type valueArray[T any] interface {
	nullable
	Value(i int) T
}

func (c *values[T]) compare(i int, other column, j int) int {
	o := other.(*values[T])
	if n, values := compareNulls(c.array, i, o.array, j); !values {
		return n
	}
	return c.compareValues(c.array.Value(i), o.array.Value(j))
}

func (c *values[T]) word(i int) uint64 {
	if c.array.NullN() > 0 && c.array.IsNull(i) {
		return 0
	}
	return c.wordOf(c.array.Value(i), 0)
}

func (c *values[T]) setWords(rows []entry, depth int) {
	for i, r := range rows {
		if depth == 0 {
			rows[i].Prefix = c.word(int(r.Ref))
		} else {
			rows[i].Prefix = c.wordOf(c.array.Value(int(r.Ref)), depth)
		}
	}
}

func (c *values[T]) isComplete(w uint64, depth int) bool {
	return w == 0 && depth == 0 || c.complete(w, depth)
}

// textWord returns seven bytes of a text, followed by a byte: one more than their number, or 9 if further bytes follow.
func textWord[T string | []byte](text T, depth int) uint64 {
	text = text[7*depth:]
	w := uint64(min(len(text), 8) + 1)
	if len(text) >= 8 {
		return w | uint64(text[0])<<56 | uint64(text[1])<<48 | uint64(text[2])<<40 | uint64(text[3])<<32 | uint64(text[4])<<24 | uint64(text[5])<<16 | uint64(text[6])<<8
	}
	for i := range len(text) {
		w |= uint64(text[i]) << (56 - 8*i)
	}
	return w
}

func isWholeText(w uint64, _ int) bool { return byte(w) != 9 }

// decimalWord returns, at depth 0, a decimal as a 64-bit number if it fits, and otherwise the smallest or the largest
// word. The words at depths 1 and 2 are all bits of the decimal.
func decimalWord(v decimal128.Num, depth int) uint64 {
	switch {
	case depth == 2:
		return v.LowBits()
	case depth == 1:
		return uint64(v.HighBits()) ^ 1<<63
	case v.HighBits() == int64(v.LowBits())>>63:
		return max(v.LowBits()^1<<63, 1)
	case v.Sign() < 0:
		return 1
	}
	return math.MaxUint64
}

func isWholeDecimal(w uint64, depth int) bool {
	return depth == 2 || depth == 0 && w != 1 && w != math.MaxUint64
}
