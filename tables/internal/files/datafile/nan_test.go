package datafile

import (
	"maps"
	"math"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestBoundsOfNaN checks that only chunks without NaN have bounds in the footer and in the page index, in
// flat and nested files.
func TestBoundsOfNaN(t *testing.T) {
	double, single := arrow.PrimitiveTypes.Float64, arrow.PrimitiveTypes.Float32
	f, g := withID(11, arrow.Field{Name: "f", Type: double}), withID(12, arrow.Field{Name: "g", Type: single})
	flat := arrow.NewSchema([]arrow.Field{withID(10, arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64}), f, g}, nil)
	nested := arrow.NewSchema([]arrow.Field{flat.Field(0), withID(13, arrow.Field{Name: "s", Type: arrow.StructOf(f, g)})}, nil)
	for _, columns := range []*arrow.Schema{flat, nested} {
		var groups []arrow.RecordBatch
		for group := range 3 {
			b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
			parts := b.Fields()[1:]
			s, isNested := b.Field(1).(*array.StructBuilder)
			if isNested {
				parts = []array.Builder{s.FieldBuilder(0), s.FieldBuilder(1)}
			}
			for i := range 20_000 {
				v := float64(i)
				if group == 1 && i >= 15_000 && i < 15_003 {
					v = math.NaN()
				}
				b.Field(0).(*array.Int64Builder).Append(int64(i))
				if isNested {
					s.Append(true)
				}
				if parts[1].(*array.Float32Builder).Append(float32(i)); i%1000 == 7 { // the value under the null is NaN
					parts[0].(*array.Float64Builder).AppendValues([]float64{math.NaN()}, []bool{false})
				} else {
					parts[0].(*array.Float64Builder).Append(v)
				}
			}
			groups = append(groups, b.NewRecordBatch())
		}
		content, e := encodeWith(t, groups, columns)
		if got := e.nanCounts(); !maps.Equal(got, map[int]int64{11: 3, 12: 0}) {
			t.Errorf("nanCounts() = %v, want 3 for field 11, and 0 for field 12", got)
		}
		r := parse(t, content)
		for group := range r.NumRowGroups() {
			index := must.Get(r.GetPageIndexReader().RowGroup(group))(t)
			for leaf := range 3 {
				chunk := must.Get(r.MetaData().RowGroup(group).ColumnChunk(leaf))(t)
				s := must.Get(chunk.Statistics())(t)
				pageBounds := must.Get(index.GetColumnIndex(leaf))(t)
				begins, err := index.GetOffsetIndex(leaf)
				if err != nil || begins == nil {
					t.Errorf("group %d, leaf %d: no page index, error %v", group, leaf, err)
				}
				if wantBounds := group != 1 || leaf != 1; s.HasMinMax() != wantBounds || (pageBounds != nil) != wantBounds {
					t.Errorf("group %d, leaf %d: has bounds: %v, has bounds of pages: %v; want %v", group, leaf, s.HasMinMax(), pageBounds != nil, wantBounds)
				}
				if nulls := map[int]int64{1: 20}[leaf]; !s.HasNullCount() || s.NullCount() != nulls {
					t.Errorf("group %d, leaf %d: got %d nulls, want %d", group, leaf, s.NullCount(), nulls)
				}
			}
		}
	}
}
