package bulk_test

import (
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/bulk"
)

// TestMaxBlock checks that rows are written before they are more than can be joined, if there is memory for more.
func TestMaxBlock(t *testing.T) {
	defer func(max int64) { *bulk.MaxBlock = max }(*bulk.MaxBlock)
	*bulk.MaxBlock = 8 << 10
	const size, rows = 16 << 10, 160 << 10
	dir := filepath.Join(t.TempDir(), "out")
	must.Get(bulk.Split(t.Context(), numbers(memory.DefaultAllocator, rows, size, nil), &bulk.SplitOptions{By: []string{"k"}, Dir: dir}))(t)
	r := must.Get(file.OpenParquetFile(filepath.Join(dir, "0.parquet"), false))(t)
	defer r.Close()
	if r.NumRows() != rows || r.NumRowGroups() != 10 {
		t.Errorf("the file has %d rows in %d row groups, want %d in 10", r.NumRows(), r.NumRowGroups(), rows)
	}
}

// TestSmallBatches checks that batches of one row, which are small but take much memory, are joined early.
func TestSmallBatches(t *testing.T) {
	const rows, maxBatches = 40_000, 10_000
	for name, run := range map[string]func(array.RecordReader) error{
		"split": func(r array.RecordReader) error {
			_, err := bulk.Split(t.Context(), r, &bulk.SplitOptions{By: []string{"k"}, Dir: filepath.Join(t.TempDir(), "out")})
			return err
		},
		"sort": func(r array.RecordReader) error {
			sorted, err := bulk.Sort(t.Context(), r, &bulk.SortOptions{By: []string{"k"}})
			if err == nil {
				read(t, sorted, nil)
			}
			return err
		},
	} {
		allocated := memory.NewCheckedAllocator(memory.DefaultAllocator)
		first, peak := 0, 0
		r := numbers(allocated, rows, 1, func() {
			if n := allocated.CurrentAlloc(); first == 0 {
				first = n
			} else {
				peak = max(peak, n)
			}
		})
		must.Do(t, run(r))
		if peak > maxBatches*first {
			t.Errorf("%s: up to %d batches of one row were in memory, want at most %d", name, peak/first, maxBatches)
		}
	}
}

// numbers returns a reader of rows in batches of size rows, and calls made after it has made a batch.
func numbers(mem memory.Allocator, rows, size int, made func()) array.RecordReader {
	columns := arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64}}, nil)
	return array.ReaderFromIter(columns, func(yield func(arrow.RecordBatch, error) bool) {
		for range rows / size {
			b := array.NewRecordBuilder(mem, columns)
			for range size {
				b.Field(0).(*array.Int64Builder).Append(0)
			}
			batch := b.NewRecordBatch()
			if b.Release(); made != nil {
				made()
			}
			if !yield(batch, nil) {
				return
			}
		}
	})
}
