package schema

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestDictionaryKeepsValues checks that values with the same text stay different values: two times of one day, which a
// date64 should not contain, but may.
func TestDictionaryKeepsValues(t *testing.T) {
	b := array.NewDate64Builder(memory.DefaultAllocator)
	b.AppendValues([]arrow.Date64{7, 86_400_000, 86_400_001, 0, 86_400_001}, []bool{true, true, true, false, true})
	dates := array.NewSlice(b.NewArray(), 1, 5)
	to := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.FixedWidthTypes.Date64}
	d := must.Get(ConvertArray(dates, to))(t).(*array.Dictionary)
	if n := d.Dictionary().Len(); n != 2 {
		t.Errorf("the dictionary has %d values, want 2", n)
	}
	if back := must.Get(ConvertArray(d, dates.DataType()))(t); !array.Equal(back, dates) {
		t.Errorf("the decoded values are %v, want %v", back, dates)
	}
}
