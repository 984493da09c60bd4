package arrowsafe

import (
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Chunks yields the rows of batches, which it releases, in batches of so many rows
// but for the last; 0 leaves them as they are.
func Chunks(batches iter.Seq2[arrow.RecordBatch, error], rows int64) iter.Seq2[arrow.RecordBatch, error] {
	if rows <= 0 {
		return batches
	}
	return func(yield func(arrow.RecordBatch, error) bool) {
		var held []arrow.RecordBatch
		var n int64
		defer func() { releaseAll(held) }()
		hand := func() bool {
			chunk, err := joined(held)
			releaseAll(held)
			held, n = nil, 0
			return yield(chunk, err) && err == nil
		}
		for b, err := range batches {
			if err != nil {
				yield(nil, err)
				return
			}
			for from := int64(0); from < b.NumRows(); {
				upTo := min(b.NumRows(), from+rows-n)
				held = append(held, b.NewSlice(from, upTo))
				n += upTo - from
				from = upTo
				if n == rows && !hand() {
					b.Release()
					return
				}
			}
			b.Release()
		}
		if n > 0 {
			hand()
		}
	}
}

func releaseAll(batches []arrow.RecordBatch) {
	for _, b := range batches {
		b.Release()
	}
}

// joined returns one batch of several.
func joined(batches []arrow.RecordBatch) (arrow.RecordBatch, error) {
	if len(batches) == 1 {
		batches[0].Retain()
		return batches[0], nil
	}
	columns := make([]arrow.Array, batches[0].NumCols())
	defer func() {
		for _, c := range columns {
			if c != nil {
				c.Release()
			}
		}
	}()
	var rows int64
	for _, b := range batches {
		rows += b.NumRows()
	}
	for i := range columns {
		parts := make([]arrow.Array, len(batches))
		for j, b := range batches {
			parts[j] = b.Column(i)
		}
		var err error
		if columns[i], err = array.Concatenate(parts, memory.DefaultAllocator); err != nil {
			return nil, err
		}
	}
	return array.NewRecordBatch(batches[0].Schema(), columns, rows), nil
}
