package batches

import (
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

// mergeRows is the maximum number of rows of a merged batch.
const mergeRows = 64 << 10

// Rebatch yields a reader's rows in batches of a suitable size. It merges small batches, such as those from query
// engines. It splits batches of more than maxBytes() (at least partBytes) into parts of about partBytes. A nil
// maxBytes means partBytes. Each batch is valid until the next one. The caller must check r.Err at the end.
func Rebatch(r array.RecordReader, maxBytes func() int64) iter.Seq[arrow.RecordBatch] {
	return func(yield func(arrow.RecordBatch) bool) {
		var pending []arrow.RecordBatch
		var rows, bytes int64
		send := func() bool {
			merged := mergeBatches(r.Schema(), pending, rows)
			pending, rows, bytes = nil, 0, 0
			limit := int64(0)
			if maxBytes != nil {
				limit = maxBytes()
			}
			for i, b := range merged {
				for part := range split(b, limit) {
					if !yield(part) {
						take.Release(merged[i:])
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
			pending, rows, bytes = append(pending, b), rows+b.NumRows(), bytes+size
		}
		send()
	}
}

// mergeBatches joins batches into one and releases them. If Arrow cannot join them, it returns them unchanged.
func mergeBatches(schema *arrow.Schema, batches []arrow.RecordBatch, rows int64) []arrow.RecordBatch {
	if len(batches) < 2 {
		return batches
	}
	joined, err := take.Concat(batches)
	if err != nil {
		return batches
	}
	defer joined.Release()
	take.Release(batches)
	return []arrow.RecordBatch{array.NewRecordBatch(schema, joined.Columns(), rows)}
}

// partBytes is the approximate maximum size of a message, in bytes. A message of up to 1 MiB fits into a buffer in
// gRPC's pool, and into the CPU caches. By default, many gRPC programs reject more than 4 MiB.
const partBytes = 960 << 10

// Parts splits a batch into pieces of about partBytes or less. Each piece is valid until the next one.
func Parts(b arrow.RecordBatch) iter.Seq[arrow.RecordBatch] { return split(b, 0) }

func split(b arrow.RecordBatch, maxBytes int64) iter.Seq[arrow.RecordBatch] {
	step := b.NumRows()
	if size := util.TotalRecordSize(b); size > max(partBytes, maxBytes) {
		step = max(1, step*partBytes/size)
	}
	return func(yield func(arrow.RecordBatch) bool) {
		for start := int64(0); start < b.NumRows(); start += step {
			part := b.NewSlice(start, min(start+step, b.NumRows()))
			more := yield(part)
			part.Release()
			if !more {
				return
			}
		}
	}
}
