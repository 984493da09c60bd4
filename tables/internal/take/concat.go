package take

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Concat joins one or more batches with the same columns. The caller must release the result.
func Concat(batches []arrow.RecordBatch) (arrow.RecordBatch, error) {
	first := batches[0]
	if len(batches) == 1 {
		first.Retain()
		return first, nil
	}
	var rows int64
	for _, b := range batches {
		rows += b.NumRows()
	}
	columns, parts := make([]arrow.Array, first.NumCols()), make([]arrow.Array, len(batches))
	for i := range columns {
		for j, b := range batches {
			parts[j] = b.Column(i)
		}
		column, err := array.Concatenate(parts, memory.DefaultAllocator)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", first.ColumnName(i), err)
		}
		defer column.Release()
		columns[i] = column
	}
	return array.NewRecordBatch(first.Schema(), columns, rows), nil
}

// Retain retains each batch.
func Retain(batches []arrow.RecordBatch) {
	for _, b := range batches {
		b.Retain()
	}
}

// Release releases each batch.
func Release(batches []arrow.RecordBatch) {
	for _, b := range batches {
		b.Release()
	}
}
