package schema

import (
	"math"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestTextsAtOnce checks that two texts that split a character are not valid, although their concatenation is
// valid UTF-8, and that bytes under nulls and outside a slice are ignored.
func TestTextsAtOnce(t *testing.T) {
	for _, c := range []struct {
		texts []string
		good  bool
	}{{nil, true}, {[]string{""}, true}, {[]string{"é", "", "ß"}, true}, {[]string{"a\xc3", "\xa9b"}, false}, {[]string{"\xc3"}, false}} {
		b := array.NewStringBuilder(memory.DefaultAllocator)
		b.Append("before")
		b.AppendValues(c.texts, nil)
		b.Append("\xff")
		all := b.NewArray()
		a := array.NewSlice(all, 1, int64(1+len(c.texts)))
		if err := CheckArray(a); (err == nil) != c.good {
			t.Errorf("%q: %v", c.texts, err)
		}
	}
	b := array.NewStringBuilder(memory.DefaultAllocator)
	b.AppendValues([]string{"a", "\xff"}, []bool{true, true})
	b.SetNull(1)
	if err := CheckArray(b.NewArray()); err != nil {
		t.Error(err)
	}
}

// TestDigits checks that a decimal must not have more digits than its type, also in nested columns, and that
// values under nulls are ignored.
func TestDigits(t *testing.T) {
	most := &arrow.Decimal128Type{Precision: 5, Scale: 2}
	whole := func(v decimal128.Num) arrow.Array {
		b := array.NewDecimal128Builder(memory.DefaultAllocator, most)
		b.AppendValues([]decimal128.Num{decimal128.MaxDecimal128, v}, []bool{false, true})
		return b.NewArray()
	}
	short := array.NewDecimal32Builder(memory.DefaultAllocator, &arrow.Decimal32Type{Precision: 5, Scale: 2})
	short.Append(math.MinInt32)
	long := array.NewDecimal64Builder(memory.DefaultAllocator, &arrow.Decimal64Type{Precision: 18})
	long.Append(999_999_999_999_999_999)
	part, err := array.NewStructArray([]arrow.Array{whole(decimal128.FromI64(100_000))}, []string{"d"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		a    arrow.Array
		good bool
	}{
		"greatest": {whole(decimal128.FromI64(99_999)), true}, "least": {whole(decimal128.FromI64(-99_999)), true},
		"one more": {whole(decimal128.FromI64(100_000)), false}, "one less": {whole(decimal128.FromI64(-100_000)), false},
		"least of all": {whole(decimal128.New(math.MinInt64, 0)), false}, "part": {part, false},
		"short": {short.NewArray(), false}, "long": {long.NewArray(), true},
	} {
		if err := CheckArray(c.a); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
