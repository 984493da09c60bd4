package batches

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestBlocks checks that a change of the size applies to the next block, and that no row is lost.
func TestBlocks(t *testing.T) {
	columns := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, columns, strings.NewReader("["+strings.Repeat(`{"n":1},`, 99)+`{"n":1}]`))
	must.Do(t, err)
	defer batch.Release()
	var batches Seq = func(yield func(arrow.RecordBatch, error) bool) {
		for range 10 {
			batch.Retain()
			if !yield(batch, nil) {
				return
			}
		}
	}
	var size atomic.Int64
	batchBytes := util.TotalRecordSize(batch)
	size.Store(3 * batchBytes)
	var rows []int64
	for block, err := range Blocks(batches, size.Load) {
		must.Do(t, err)
		rows = append(rows, block.NumRows())
		block.Release()
		size.Store(1 + batchBytes*int64(len(rows)-1))
	}
	if want := []int64{300, 100, 200, 300, 100}; !slices.Equal(rows, want) {
		t.Errorf("blocks have %d rows, want %d", rows, want)
	}
	none := must.Get(Join(func(func(arrow.RecordBatch, error) bool) {}, batch))(t)
	if none.NumRows() != 0 || !none.Schema().Equal(columns) {
		t.Errorf("Join of no batches = %v, want no rows, and the columns of the template", none)
	}
}
