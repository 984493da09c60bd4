package series

import (
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/definition"
)

// TestTrimTail checks that trimTail keeps the only block with a matching row, even if the row is the first or last of
// its block.
func TestTrimTail(t *testing.T) {
	columns := arrow.NewSchema([]arrow.Field{{Name: "t", Type: arrow.FixedWidthTypes.Timestamp_us}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	const rows = 2*trimBlockRows + 10
	for i := range rows {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(i))
	}
	tail := b.NewRecordBatch()
	s := &Series{Order: &definition.Order{Names: []string{"t"}}}
	for _, row := range []int64{0, 1, trimBlockRows - 1, trimBlockRows, 2*trimBlockRows - 1, 2 * trimBlockRows, rows - 1} {
		e, err := filter.Compare(columns.Field(0), "=", filter.TimeText(time.UnixMicro(row)))
		if err != nil {
			t.Fatal(err)
		}
		where, err := e.Bind(columns)
		if err != nil {
			t.Fatal(err)
		}
		got := s.BatchBounds(s.trimTail(tail, where))
		start := row / trimBlockRows * trimBlockRows
		if got == nil || got.Lowest != start || got.Highest != min(start+trimBlockRows, rows)-1 {
			t.Errorf("for row %d, trimTail kept the rows %v, want the block that begins at %d", row, got, start)
		}
	}
}
