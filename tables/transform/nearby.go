package transform

import (
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
