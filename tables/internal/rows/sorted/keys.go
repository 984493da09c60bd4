package sorted

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/engine/extsort"
)

// column is a key column of a batch. Nulls come before all values, and NaN before all numbers.
type column interface {
	compare(i int, other column, j int) int
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
	b := array.NewBuilder(memory.DefaultAllocator, t) // MakeArrayOfNull would panic for the null type.
	defer b.Release()
	a := b.NewArray()
	defer a.Release()
	return keyColumn(a) != nil
}

func keyColumn(a arrow.Array) column {
	switch a := a.(type) {
	case array.ExtensionArray:
		return keyColumn(a.Storage())
	case *array.Timestamp, *array.Int64, *array.Time64, *array.Duration:
		return &ints{a, arrow.GetValues[int64](a.Data(), 1)}
	case *array.Date32, *array.Int32, *array.Time32:
		return widen(a, arrow.GetValues[int32](a.Data(), 1))
	case *array.Int16:
		return widen(a, a.Int16Values())
	case *array.Int8:
		return widen(a, a.Int8Values())
	case *array.Float32:
		return &values[float32]{a, cmp.Compare[float32]}
	case *array.Float64:
		return &values[float64]{a, cmp.Compare[float64]}
	case *array.String, *array.LargeString:
		return &values[string]{a.(valueArray[string]), cmp.Compare[string]}
	case *array.Binary, *array.LargeBinary, *array.FixedSizeBinary:
		return &values[[]byte]{a.(valueArray[[]byte]), bytes.Compare}
	case *array.Decimal128:
		return &values[decimal128.Num]{a, decimal128.Num.Cmp}
	case *array.Boolean:
		return &values[bool]{a, CompareBools}
	}
	return nil
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

// compareNulls compares two values if at least one is null. Otherwise bothValid is true, and the caller must
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

func widen[T ~int32 | ~int16 | ~int8](a nullable, narrow []T) *ints {
	wide := make([]int64, len(narrow))
	for i, v := range narrow {
		wide[i] = int64(v)
	}
	return &ints{a, wide}
}

func (c *ints) compare(i int, other column, j int) int {
	o := other.(*ints)
	if n, bothValid := compareNulls(c, i, o, j); !bothValid {
		return n
	}
	return cmp.Compare(c.values[i], o.values[j])
}

type values[T any] struct {
	array         valueArray[T]
	compareValues func(a, b T) int
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

// KeysInOrder reports whether AppendKey's keys for a stored type sort like the values.
func KeysInOrder(t arrow.DataType) bool {
	switch t.ID() {
	case arrow.INT32, arrow.INT64, arrow.STRING, arrow.DATE32, arrow.TIME64, arrow.TIMESTAMP, arrow.FLOAT32, arrow.FLOAT64:
		return true
	}
	return false
}

// AppendKey appends a key for value i of a, which must have a stored type and not be null. Only equal values
// have equal keys.
func AppendKey(dst []byte, a arrow.Array, i int) []byte {
	appendInt := func(v int64) []byte { return extsort.AppendUint(dst, uint64(v)^1<<63) }
	switch a := a.(type) {
	case *array.Int32:
		return appendInt(int64(a.Value(i)))
	case *array.Int64:
		return appendInt(a.Value(i))
	case *array.Date32:
		return appendInt(int64(a.Value(i)))
	case *array.Time64:
		return appendInt(int64(a.Value(i)))
	case *array.Timestamp:
		return appendInt(int64(a.Value(i)))
	case *array.Float32:
		return extsort.AppendFloat(dst, float64(a.Value(i)))
	case *array.Float64:
		return extsort.AppendFloat(dst, a.Value(i))
	case *array.String:
		return extsort.AppendText(dst, a.Value(i))
	case *array.Binary:
		return extsort.AppendText(dst, a.Value(i))
	}
	return extsort.AppendText(dst, a.ValueStr(i))
}
