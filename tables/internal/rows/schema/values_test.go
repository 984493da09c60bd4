package schema_test

import (
	"math"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// TestInvalidTexts checks that two texts that split a character are invalid, although their concatenation is
// valid UTF-8. It also checks that bytes under nulls and outside a slice are ignored.
func TestInvalidTexts(t *testing.T) {
	for _, c := range []struct {
		texts   []string
		isValid bool
	}{{nil, true}, {[]string{""}, true}, {[]string{"é", "", "ß"}, true}, {[]string{"a\xc3", "\xa9b"}, false}, {[]string{"\xc3"}, false}} {
		b := array.NewStringBuilder(memory.DefaultAllocator)
		b.Append("before")
		b.AppendValues(c.texts, nil)
		b.Append("\xff")
		all := b.NewArray()
		a := array.NewSlice(all, 1, int64(1+len(c.texts)))
		if err := schema.CheckArray(a); (err == nil) != c.isValid {
			t.Errorf("CheckArray(%q) = %v, want success: %v", c.texts, err, c.isValid)
		}
	}
	b := array.NewStringBuilder(memory.DefaultAllocator)
	b.AppendValues([]string{"a", "\xff"}, []bool{true, true})
	b.SetNull(1)
	must.Do(t, schema.CheckArray(b.NewArray()))
}

// TestDigits checks that decimals with more digits than their type allows are refused, also in nested columns,
// and that values under nulls are ignored.
func TestDigits(t *testing.T) {
	decimalType := &arrow.Decimal128Type{Precision: 5, Scale: 2}
	decimalArrayOf := func(v decimal128.Num) arrow.Array {
		b := array.NewDecimal128Builder(memory.DefaultAllocator, decimalType)
		b.AppendValues([]decimal128.Num{decimal128.MaxDecimal128, v}, []bool{false, true})
		return b.NewArray()
	}
	short := array.NewDecimal32Builder(memory.DefaultAllocator, &arrow.Decimal32Type{Precision: 5, Scale: 2})
	short.Append(math.MinInt32)
	long := array.NewDecimal64Builder(memory.DefaultAllocator, &arrow.Decimal64Type{Precision: 18})
	long.Append(999_999_999_999_999_999)
	structArray := must.Get(array.NewStructArray([]arrow.Array{decimalArrayOf(decimal128.FromI64(100_000))}, []string{"d"}))(t)
	for name, c := range map[string]struct {
		a       arrow.Array
		isValid bool
	}{
		"maximum": {decimalArrayOf(decimal128.FromI64(99_999)), true}, "minimum": {decimalArrayOf(decimal128.FromI64(-99_999)), true},
		"above the maximum": {decimalArrayOf(decimal128.FromI64(100_000)), false}, "below the minimum": {decimalArrayOf(decimal128.FromI64(-100_000)), false},
		"smallest decimal128": {decimalArrayOf(decimal128.New(math.MinInt64, 0)), false}, "in a struct": {structArray, false},
		"smallest decimal32": {short.NewArray(), false}, "decimal64": {long.NewArray(), true},
	} {
		if err := schema.CheckArray(c.a); (err == nil) != c.isValid {
			t.Errorf("%s: CheckArray = %v, want success: %v", name, err, c.isValid)
		}
	}
}

// TestListViews checks that lists whose values are in another order, overlap or are unused keep their values.
func TestListViews(t *testing.T) {
	numbers := array.NewInt64Builder(memory.DefaultAllocator)
	numbers.AppendValues([]int64{1, 2, 3, 4}, nil)
	buffer := func(n ...int32) *memory.Buffer { return memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(n)) }
	views := array.NewListViewData(array.NewData(arrow.ListViewOf(arrow.PrimitiveTypes.Int64), 3, []*memory.Buffer{nil, buffer(2, 0, 0), buffer(2, 2, 1)}, []arrow.ArrayData{numbers.NewArray().Data()}, 0, 0))
	lists, err := schema.ConvertArray(views, arrow.ListOf(arrow.PrimitiveTypes.Int64))
	if err != nil || lists.String() != "[[3 4] [1 2] [1]]" {
		t.Errorf("ConvertArray = %v, %v, want [[3 4] [1 2] [1]]", lists, err)
	}
}
