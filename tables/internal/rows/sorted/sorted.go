// Package sorted sorts and merges batches of rows by some of their columns, in bounded memory, and
// removes rows with duplicate keys.
package sorted

import (
	"cmp"
	"context"
	"slices"

	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// Rule says which rows with equal keys to keep.
type Rule uint8

// Rules for rows with equal keys. These rows are ordered by source, and within a source by position.
const (
	All   Rule = iota // all, in order
	First             // the first
	Last              // the last
	Extra             // all except the first
)

// Source is a sorted sequence of rows.
type Source struct {
	Batches batches.Seq
	Keys    []int // indices of the columns that order the rows, the most significant first
	// Hides omits the source's rows from the output. The rule still counts them: if such a row is the first with its
	// keys, the rule First drops the other rows with these keys. A source with Hides needs only the key columns.
	Hides bool

	// Bounds are the lowest and the highest value in the first key column, which must be an integer, a date or a time.
	// The merge opens the source when it reaches the lowest value. Nil means that the bounds are unknown.
	Bounds *Bounds
	// Cost estimates the memory that the source uses while it is open, in bytes.
	Cost int64
}

// Bounds is an inclusive range of values.
type Bounds struct{ Lowest, Highest int64 }

// Overlaps reports whether a value can be within both bounds. Nil bounds include all values.
func (b *Bounds) Overlaps(o *Bounds) bool {
	return b == nil || o == nil || b.Lowest <= o.Highest && o.Lowest <= b.Highest
}

// Union returns the smallest bounds that include both, or nil if either is nil.
func (b *Bounds) Union(o *Bounds) *Bounds {
	if b == nil || o == nil {
		return nil
	}
	return &Bounds{min(b.Lowest, o.Lowest), max(b.Highest, o.Highest)}
}

// bundle merges groups of adjacent sources into single sources, through temporary files, until the sources that are
// open at the same time need at most the given memory, in bytes.
func bundle(ctx context.Context, sources []Source, memory int64) []Source {
	for peakCost(sources) > memory {
		var bundles []Source
		for i := 0; i < len(sources); {
			n, cost := i, int64(0)
			bundled := Source{Keys: sources[i].Keys, Hides: sources[i].Hides, Bounds: sources[i].Bounds, Cost: batches.SpilledBytes}
			for n < len(sources) && sources[n].Hides == bundled.Hides && (n < i+2 || cost+sources[n].Cost <= memory) {
				cost += sources[n].Cost
				bundled.Bounds = bundled.Bounds.Union(sources[n].Bounds)
				n++
			}
			if n == i+1 {
				bundled = sources[i]
			} else {
				group := make([]Source, n-i)
				for j, s := range sources[i:n] {
					group[j] = s
					group[j].Hides = false
				}
				bundled.Batches = batches.ViaFile(Merge(ctx, All, cost, group...), schema.Convert)
			}
			bundles = append(bundles, bundled)
			i = n
		}
		if len(bundles) == len(sources) {
			break
		}
		sources = bundles
	}
	return sources
}

// compareLowest compares the lowest values of two sources. Sources without bounds come first.
func (s Source) compareLowest(o Source) int {
	if s.Bounds == nil || o.Bounds == nil {
		return CompareBools(s.Bounds != nil, o.Bounds != nil)
	}
	return cmp.Compare(s.Bounds.Lowest, o.Bounds.Lowest)
}

// peakCost returns the maximum total cost of sources that are open at the same time.
func peakCost(sources []Source) (maxCost int64) {
	byLowest := slices.Clone(sources)
	slices.SortStableFunc(byLowest, Source.compareLowest)
	var openSources []Source
	for _, s := range byLowest {
		openSources = slices.DeleteFunc(openSources, func(o Source) bool {
			return o.Bounds != nil && s.Bounds != nil && o.Bounds.Highest < s.Bounds.Lowest
		})
		openSources = append(openSources, s)
		sum := int64(0)
		for _, o := range openSources {
			sum += o.Cost
		}
		maxCost = max(maxCost, sum)
	}
	return maxCost
}
