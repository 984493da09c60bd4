package take

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/util"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestViewRows checks that some rows of views, also of views in lists and structs, do not hold the text of the others.
func TestViewRows(t *testing.T) {
	const n = 10_000
	item := arrow.StructOf(arrow.Field{Name: "b", Type: arrow.BinaryTypes.BinaryView, Nullable: true})
	columns := arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.StringView, Nullable: true}, {Name: "l", Type: arrow.ListOf(item), Nullable: true}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer b.Release()
	texts, lists := b.Field(0).(*array.StringViewBuilder), b.Field(1).(*array.ListBuilder)
	items := lists.ValueBuilder().(*array.StructBuilder)
	for i := range n {
		lists.Append(i%7 != 0)
		switch {
		case i%5 == 0:
			texts.AppendNull()
		case i%3 == 0:
			texts.Append("inline")
		default:
			texts.Append(fmt.Sprintf("%0100d", i))
		}
		if i%7 != 0 {
			for k := range i % 4 {
				items.Append(true)
				items.FieldBuilder(0).(*array.BinaryViewBuilder).Append(fmt.Appendf(nil, "%080d-%d", i, k))
			}
		}
	}
	all := b.NewRecordBatch()
	defer all.Release()
	random := rand.New(rand.NewPCG(1, 0))
	for _, count := range []int{0, 1, 100, n / 3, n} {
		indices := random.Perm(n)[:count]
		rows := must.Get(Batch(all, indices))(t)
		for c, column := range rows.Columns() {
			for i, row := range indices {
				if got, want := column.ValueStr(i), all.Column(c).ValueStr(row); got != want {
					t.Fatalf("%d rows: row %d of %s is %s, want %s", count, i, columns.Field(c).Name, got, want)
				}
			}
		}
		if size, limit := util.TotalRecordSize(rows), util.TotalRecordSize(all)*int64(2*count+20)/n; count < n && size > limit {
			t.Errorf("%d of %d rows have %d bytes, more than %d", count, n, size, limit)
		}
		rows.Release()
	}
}
