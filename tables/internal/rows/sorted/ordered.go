package sorted

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// Ordered yields rows that should be sorted by columns already. If a row sorts before the previous one, Ordered yields
// the error that misplaced returns for this row's number, counted from 1.
func Ordered(rows batches.Seq, columns []int, misplaced func(row int64) error) batches.Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		var last arrow.RecordBatch // a copy of the last row
		defer func() { releaseAny(last) }()
		rowsBefore := int64(0)
		for b, err := range rows {
			if err == nil && b.NumRows() > 0 {
				err = checkOrder(last, b, columns, func(row int) error { return misplaced(rowsBefore + int64(row) + 1) })
				if err == nil {
					releaseAny(last)
					last, err = takeRows(b, []uint32{uint32(b.NumRows() - 1)})
				}
				rowsBefore += b.NumRows()
				if err != nil {
					b.Release()
					b = nil
				}
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

func releaseAny(b arrow.RecordBatch) {
	if b != nil {
		b.Release()
	}
}

// checkOrder returns an error for the first row of b that sorts before the preceding row. last contains the row before
// b, or is nil.
func checkOrder(last, b arrow.RecordBatch, columns []int, misplaced func(row int) error) error {
	k, err := keysOf(b, columns)
	if err != nil {
		return err
	}
	if last != nil {
		previous, err := keysOf(last, columns)
		if err != nil {
			return err
		}
		if previous.compare(0, k, 0) > 0 {
			return misplaced(0)
		}
	}
	if k.inOrder(int(b.NumRows())) {
		return nil
	}
	row := 1
	for k.compare(row-1, k, row) <= 0 {
		row++
	}
	return misplaced(row)
}
