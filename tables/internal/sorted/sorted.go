// Package sorted merges and sorts batches of rows by some of their columns, in
// bounded memory, and leaves out rows with keys that others have.
package sorted

import (
	"cmp"
	"context"
	"iter"
	"slices"

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

// bundled returns sources that take no more than some memory while they are open.
func bundled(ctx context.Context, sources []Source, memory int64) []Source {
	for peak(sources) > memory {
		var fewer []Source
		for i := 0; i < len(sources); {
			n, cost := i, int64(0)
			one := Source{Keys: sources[i].Keys, Hides: sources[i].Hides, Bounds: sources[i].Bounds, Cost: spilledCost}
			for n < len(sources) && sources[n].Hides == one.Hides && (n < i+2 || cost+sources[n].Cost <= memory) {
				cost += sources[n].Cost
				one.Bounds = one.Bounds.With(sources[n].Bounds)
				n++
			}
			if n == i+1 {
				one = sources[i]
			} else {
				few := make([]Source, n-i)
				for j, s := range sources[i:n] {
					few[j] = s
					few[j].Hides = false
				}
				one.Batches = spilled(Merge(ctx, All, cost, few...))
			}
			fewer = append(fewer, one)
			i = n
		}
		if len(fewer) == len(sources) {
			break
		}
		sources = fewer
	}
	return sources
}

// byLowest compares sources by their lowest values, those without bounds first.
func (s Source) byLowest(o Source) int {
	if s.Bounds == nil || o.Bounds == nil {
		return CompareBools(s.Bounds != nil, o.Bounds != nil)
	}
	return cmp.Compare(s.Bounds.Lowest, o.Bounds.Lowest)
}

// peak returns how much sources take at most while they are open.
func peak(sources []Source) (most int64) {
	byLowest := slices.Clone(sources)
	slices.SortStableFunc(byLowest, Source.byLowest)
	var open []Source
	for _, s := range byLowest {
		open = slices.DeleteFunc(open, func(o Source) bool {
			return o.Bounds != nil && s.Bounds != nil && o.Bounds.Highest < s.Bounds.Lowest
		})
		open = append(open, s)
		sum := int64(0)
		for _, o := range open {
			sum += o.Cost
		}
		most = max(most, sum)
	}
	return most
}
