package transform

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/go-partd/partd/tables/internal/sorted"
)

// gatherer holds what functions need of a column's values in a bin.
type gatherer interface {
	batch(c arrow.Array)                                         // of which rows follow
	add(from, to int)                                            // rows of it
	begin()                                                      // the next bin
	putter(function string, to array.Builder) (put func() error) // of the function's value, or null
}

// The functions that a gatherer has, by what it does for them.
var (
	ofTotals  = []string{"mean", "sum", "count"}
	ofEnds    = []string{"count", "first", "last", "open", "close"}
	ofOrder   = append([]string{"min", "max", "low", "high"}, ofEnds...)
	ofSums    = append([]string{"mean", "sum"}, ofOrder...)
	ofMoments = append([]string{"std", "var", "sem", "prod"}, ofSums...)
	ofValues  = []string{"median", "quantile", "nunique"} // which need all of a bin's
)

// beyond reports whether some of the functions are not among those known.
func beyond(names, known []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(known, name) })
}

var ofNumbers = map[arrow.Type]func(names []string) gatherer{
	arrow.INT8: newNumbers[int8], arrow.UINT8: newNumbers[uint8],
	arrow.INT16: newNumbers[int16], arrow.UINT16: newNumbers[uint16],
	arrow.INT32: newNumbers[int32], arrow.UINT32: newNumbers[uint32],
	arrow.INT64: newNumbers[int64], arrow.UINT64: newNumbers[uint64],
	arrow.FLOAT32: newNumbers[float32], arrow.FLOAT64: newNumbers[float64],
}

// newGatherer returns one for a column's functions; nil if SQL has to make them.
func newGatherer(t arrow.DataType, names []string) gatherer {
	if of := ofNumbers[t.ID()]; of != nil {
		return of(names)
	}
	if beyond(names, ofOrder) {
		return nil
	}
	ordered := beyond(names, ofEnds)
	switch t.ID() {
	case arrow.STRING, arrow.LARGE_STRING:
		return &others[string]{order: strings.Compare, ordered: ordered}
	case arrow.BINARY, arrow.LARGE_BINARY:
		return &others[[]byte]{order: bytes.Compare, ordered: ordered}
	case arrow.TIMESTAMP:
		return &others[arrow.Timestamp]{order: cmp.Compare[arrow.Timestamp], ordered: ordered}
	case arrow.DATE32:
		return &others[arrow.Date32]{order: cmp.Compare[arrow.Date32], ordered: ordered}
	case arrow.DECIMAL128:
		return &others[decimal128.Num]{order: decimal128.Num.Cmp, ordered: ordered}
	case arrow.BOOL:
		return &others[bool]{order: sorted.CompareBools, ordered: ordered}
	}
	return nil
}

func putCount(n *int64, to array.Builder) func() error {
	counts := to.(*array.Int64Builder)
	return func() error {
		counts.Append(*n)
		return nil
	}
}

// putEnd puts a value, or null where there are none.
func putEnd[T any](n *int64, value *T, to array.Builder) func() error {
	values := to.(interface{ Append(T) })
	return func() error {
		if *n == 0 {
			to.AppendNull()
		} else {
			values.Append(*value)
		}
		return nil
	}
}

// end returns what a function of the ends takes.
func end[T any](function string, first, last, least, most *T) *T {
	switch function {
	case "first", "open":
		return first
	case "last", "close":
		return last
	case "min", "low":
		return least
	}
	return most
}

// others is the gatherer of a column of other values.
type others[T any] struct {
	order   func(a, b T) int
	ordered bool // the least and the most are wanted
	column  interface {
		IsNull(int) bool
		Value(int) T
	}

	n                        int64
	first, last, least, most T
}

func (g *others[T]) begin() { g.n = 0 }

func (g *others[T]) batch(c arrow.Array) {
	g.column = c.(interface {
		IsNull(int) bool
		Value(int) T
	})
}

func (g *others[T]) add(from, to int) {
	for i := from; i < to; i++ {
		if g.column.IsNull(i) {
			continue
		}
		v := g.column.Value(i)
		if g.n == 0 {
			g.first, g.least, g.most = v, v, v
		}
		g.n++
		g.last = v
		switch {
		case !g.ordered:
		case g.order(v, g.least) < 0:
			g.least = v
		case g.order(v, g.most) > 0:
			g.most = v
		}
	}
}

func (g *others[T]) putter(function string, to array.Builder) func() error {
	if function == "count" {
		return putCount(&g.n, to)
	}
	return putEnd(&g.n, end(function, &g.first, &g.last, &g.least, &g.most), to)
}
