package transform

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// gatherer accumulates a bin's values in one column, for all functions of the column.
type gatherer interface {
	setBatch(c arrow.Array) // sets the batch that add reads
	add(from, to int)       // adds rows [from, to) of the batch to the bin
	begin()                 // starts the next bin
	// returns put, a function that appends the bin's result, or null, to a builder
	putter(function string, to array.Builder) (put func() error)
}

// Functions, grouped by the values that a gatherer must compute for them. Each list from extremeFunctions to
// momentFunctions includes the previous one.
var (
	totalFunctions     = []string{"mean", "sum", "count"}
	firstLastFunctions = []string{"count", "first", "last", "open", "close"}
	extremeFunctions   = append([]string{"min", "max", "low", "high"}, firstLastFunctions...)
	sumFunctions       = append([]string{"mean", "sum"}, extremeFunctions...)
	momentFunctions    = append([]string{"std", "var", "sem", "prod"}, sumFunctions...)
	valueFunctions     = []string{"median", "quantile", "nunique"} // these need all values of a bin
)

func containsOther(names, known []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(known, name) })
}

var numberGatherers = map[arrow.Type]func(names []string) gatherer{
	arrow.INT8: newNumbers[int8], arrow.UINT8: newNumbers[uint8],
	arrow.INT16: newNumbers[int16], arrow.UINT16: newNumbers[uint16],
	arrow.INT32: newNumbers[int32], arrow.UINT32: newNumbers[uint32],
	arrow.INT64: newNumbers[int64], arrow.UINT64: newNumbers[uint64],
	arrow.FLOAT32: newNumbers[float32], arrow.FLOAT64: newNumbers[float64],
}

// newGatherer returns a gatherer for a column of type t and its functions, or nil if the functions need SQL.
func newGatherer(t arrow.DataType, names []string) gatherer {
	if newGatherer := numberGatherers[t.ID()]; newGatherer != nil {
		return newGatherer(names)
	}
	if containsOther(names, extremeFunctions) {
		return nil
	}
	if newGatherer := valueGatherers[t.ID()]; newGatherer != nil {
		return newGatherer(containsOther(names, firstLastFunctions))
	}
	return nil
}

var valueGatherers = map[arrow.Type]func(needsExtremes bool) gatherer{
	arrow.STRING: newValues(strings.Compare), arrow.LARGE_STRING: newValues(strings.Compare),
	arrow.BINARY: newValues(bytes.Compare), arrow.LARGE_BINARY: newValues(bytes.Compare),
	arrow.TIMESTAMP: newValues(cmp.Compare[arrow.Timestamp]), arrow.DATE32: newValues(cmp.Compare[arrow.Date32]),
	arrow.DECIMAL128: newValues(decimal128.Num.Cmp), arrow.BOOL: newValues(sorted.CompareBools),
}

func newValues[T any](compare func(a, b T) int) func(needsExtremes bool) gatherer {
	return func(needsExtremes bool) gatherer {
		return &comparableValues[T]{compare: compare, needsExtremes: needsExtremes}
	}
}

func putCount(n *int64, to array.Builder) func() error {
	counts := to.(*array.Int64Builder)
	return func() error {
		counts.Append(*n)
		return nil
	}
}

// putOrNull returns a function that appends *value to a builder, or a null if *n, the number of values, is 0.
func putOrNull[T any](n *int64, value *T, to array.Builder) func() error {
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

// putFloat is like putOrNull, but computes the value.
func putFloat(n *int64, value func() float64, to *array.Float64Builder) func() error {
	return func() error {
		if *n == 0 {
			to.AppendNull()
		} else {
			to.Append(value())
		}
		return nil
	}
}

func selectValue[T any](function string, first, last, lowest, highest *T) *T {
	switch function {
	case "first", "open":
		return first
	case "last", "close":
		return last
	case "min", "low":
		return lowest
	}
	return highest
}

type valueColumn[T any] interface {
	IsNull(i int) bool
	Value(i int) T
}

// comparableValues is the gatherer for columns of types other than numbers.
type comparableValues[T any] struct {
	compare       func(a, b T) int
	needsExtremes bool // a function needs the minimum or the maximum
	column        valueColumn[T]

	n                            int64
	first, last, lowest, highest T
}

func (g *comparableValues[T]) begin() { g.n = 0 }

func (g *comparableValues[T]) setBatch(c arrow.Array) { g.column = c.(valueColumn[T]) }

func (g *comparableValues[T]) add(from, to int) {
	for i := from; i < to; i++ {
		if g.column.IsNull(i) {
			continue
		}
		v := g.column.Value(i)
		if g.n == 0 {
			g.first, g.lowest, g.highest = v, v, v
		}
		g.n++
		g.last = v
		switch {
		case !g.needsExtremes:
		case g.compare(v, g.lowest) < 0:
			g.lowest = v
		case g.compare(v, g.highest) > 0:
			g.highest = v
		}
	}
}

func (g *comparableValues[T]) putter(function string, to array.Builder) func() error {
	if function == "count" {
		return putCount(&g.n, to)
	}
	return putOrNull(&g.n, selectValue(function, &g.first, &g.last, &g.lowest, &g.highest), to)
}
