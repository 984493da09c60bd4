package sorted

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// TestSortLargeRows checks that Sort does not read a row of every temporary file at the same time if the rows are large.
func TestSortLargeRows(t *testing.T) {
	const rows, rowBytes = 24, 4 << 20
	in := Input{Keys: []int{2}, Memory: rowBytes / 2, Size: util.TotalRecordSize, Batches: func(yield func(arrow.RecordBatch, error) bool) {
		for i := range int64(rows) {
			if !yield(batchOf([]row{{sym: strings.Repeat("x", rowBytes), id: rows - i}}), nil) {
				return
			}
		}
	}}
	var last int64
	used := procs.HeapPeak(func() {
		for b, err := range Sort(t.Context(), All, in) {
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rowsOf(t, batches.From(b)) {
				if last++; r.id != last {
					t.Fatalf("row %d is at place %d", r.id, last)
				}
			}
			b.Release()
		}
	})
	if last != rows || used > rows*rowBytes*2/3 {
		t.Errorf("%d rows of %d bytes took %d bytes of memory", last, rowBytes, used)
	}
}
