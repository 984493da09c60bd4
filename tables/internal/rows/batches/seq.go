// Package batches maps, splits, joins, prefetches and spills sequences of record batches. It converts them to readers and
// back.
package batches

import (
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
)

// Seq is a sequence of batches. The consumer must release them. An error ends the sequence.
type Seq = iter.Seq2[arrow.RecordBatch, error]

// Single returns a sequence of one batch. The caller still owns the batch.
func Single(batch arrow.RecordBatch) Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		batch.Retain()
		yield(batch, nil)
	}
}

// Map returns a function that applies f to each batch. f takes ownership of its argument.
func Map(f func(arrow.RecordBatch) (arrow.RecordBatch, error)) func(Seq) Seq {
	return func(rows Seq) Seq {
		return func(yield func(arrow.RecordBatch, error) bool) {
			for b, err := range rows {
				if err == nil {
					b, err = f(b)
				}
				if !yield(b, err) || err != nil {
					return
				}
			}
		}
	}
}

// Until yields the batches that next returns, until next returns nil.
func Until(next func() (arrow.RecordBatch, error)) Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for {
			if b, err := next(); b == nil && err == nil || !yield(b, err) || err != nil {
				return
			}
		}
	}
}
