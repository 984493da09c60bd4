// Package batches maps, splits, joins, prefetches and spills sequences of record batches. It converts them to readers and
// back.
package batches

import (
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
)

// Seq is a sequence of batches. The consumer must release them. An error ends the sequence.
type Seq = iter.Seq2[arrow.RecordBatch, error]

// From yields the given batches. The caller still owns them.
func From(batches ...arrow.RecordBatch) Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for _, b := range batches {
			b.Retain()
			if !yield(b, nil) {
				return
			}
		}
	}
}

// Concat yields the batches of several sequences, one sequence after another.
func Concat(parts ...Seq) Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for _, rows := range parts {
			for b, err := range rows {
				if !yield(b, err) || err != nil {
					return
				}
			}
		}
	}
}

// MapError yields the batches of rows and applies f to each error. f must return nil for nil.
func MapError(rows Seq, f func(error) error) Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for b, err := range rows {
			if !yield(b, f(err)) {
				return
			}
		}
	}
}

// Map returns a function that applies f to each batch. f takes ownership of its argument. If f returns nil, Map leaves
// the batch out.
func Map(f func(arrow.RecordBatch) (arrow.RecordBatch, error)) func(Seq) Seq {
	return func(rows Seq) Seq {
		return func(yield func(arrow.RecordBatch, error) bool) {
			for b, err := range rows {
				if err == nil {
					b, err = f(b)
				}
				if (b != nil || err != nil) && !yield(b, err) || err != nil {
					return
				}
			}
		}
	}
}

// ForEach calls use with each batch and then releases the batch. It stops at the first error.
func ForEach(rows Seq, use func(arrow.RecordBatch) error) error {
	for b, err := range rows {
		if err == nil {
			err = use(b)
			b.Release()
		}
		if err != nil {
			return err
		}
	}
	return nil
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
