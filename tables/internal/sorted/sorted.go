// Package sorted merges and sorts batches of rows by some of their columns, in
// bounded memory, and leaves out rows with keys that others have.
package sorted

import (
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
)

// Batches is a sequence of batches, each of which whoever takes it releases. An
// error ends it.
type Batches = iter.Seq2[arrow.RecordBatch, error]

// Rule says which rows of equal keys are handed on.
type Rule uint8

// The rules. Rows of equal keys are in the order of their sources, and within one
// in its own.
const (
	All   Rule = iota // all, in order
	First             // the first
	Last              // the last
	Extra             // all but the first
)

// Source is sorted rows.
type Source struct {
	Batches Batches
	Keys    []int // the columns that order the rows, the most important one first
	// Hides says that the rows count for the rule, but are not handed on: such a
	// source needs no columns but its keys.
	Hides bool

	// Bounds are the lowest and highest value of the first key column, which is a
	// number, a date or a time then. A source with bounds is opened when the merge
	// comes to them. Nil means that nothing is known.
	Bounds *Bounds
	// Cost is about how many bytes the source takes while it is open.
	Cost int64
}

// Bounds are two values, both of which may occur.
type Bounds struct{ Lowest, Highest int64 }

// Overlaps reports whether there may be a value within both bounds, of which nil
// ones have all.
func (b *Bounds) Overlaps(o *Bounds) bool {
	return b == nil || o == nil || b.Lowest <= o.Highest && o.Lowest <= b.Highest
}

// With returns the bounds of both.
func (b *Bounds) With(o *Bounds) *Bounds {
	if b == nil || o == nil {
		return nil
	}
	return &Bounds{min(b.Lowest, o.Lowest), max(b.Highest, o.Highest)}
}

// Only yields one batch, which stays the caller's.
func Only(batch arrow.RecordBatch) Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		batch.Retain()
		yield(batch, nil)
	}
}

// Each returns what changes each batch of some rows, as f does, which takes it over.
func Each(f func(arrow.RecordBatch) (arrow.RecordBatch, error)) func(Batches) Batches {
	return func(rows Batches) Batches {
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
