// Package messages makes of batches pieces that are worth a message of Flight, or of
// a pipe between processes.
package messages

import (
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables/internal/take"
)

// mergeRows is how many rows are merged at most: batches with more are as well
// sent as they are.
const mergeRows = 64 << 10

// Of makes of what a reader has pieces that are worth a message: small
// batches, as query engines make them, are merged, and large ones cut. Each piece
// is there until the next. Where the reader failed, r.Err says so.
func Of(r array.RecordReader) iter.Seq[arrow.RecordBatch] {
	return func(yield func(arrow.RecordBatch) bool) {
		var held []arrow.RecordBatch
		var rows, bytes int64
		send := func() bool {
			batches := merged(r.Schema(), held, rows)
			held, rows, bytes = nil, 0, 0
			for i, b := range batches {
				for part := range Parts(b) {
					if !yield(part) {
						take.Release(batches[i:])
						return false
					}
				}
				b.Release()
			}
			return true
		}
		for r.Next() {
			b := r.RecordBatch()
			size := util.TotalRecordSize(b)
			if rows+b.NumRows() > mergeRows || bytes+size > partBytes {
				if !send() {
					return
				}
			}
			b.Retain()
			held, rows, bytes = append(held, b), rows+b.NumRows(), bytes+size
		}
		send()
	}
}

// merged makes one batch of some, which it releases, or returns them as they are
// where Arrow cannot join columns of their types.
func merged(schema *arrow.Schema, batches []arrow.RecordBatch, rows int64) []arrow.RecordBatch {
	if len(batches) < 2 {
		return batches
	}
	one, err := take.Concat(batches)
	if err != nil {
		return batches
	}
	defer one.Release()
	take.Release(batches)
	return []arrow.RecordBatch{array.NewRecordBatch(schema, one.Columns(), rows)}
}

// partBytes is about how large a message is made. Many peers refuse more than
// 4 MiB, unless they are told otherwise.
const partBytes = 2 << 20

// Parts cuts a batch into pieces for messages; each is there until the next.
func Parts(b arrow.RecordBatch) iter.Seq[arrow.RecordBatch] {
	step := b.NumRows()
	if size := util.TotalRecordSize(b); size > partBytes {
		step = max(1, step*partBytes/size)
	}
	return func(yield func(arrow.RecordBatch) bool) {
		for from := int64(0); from < b.NumRows(); from += step {
			part := b.NewSlice(from, min(from+step, b.NumRows()))
			more := yield(part)
			part.Release()
			if !more {
				return
			}
		}
	}
}
