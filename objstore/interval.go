package objstore

import (
	"math"
	"math/bits"

	"github.com/go-partd/partd/internal/engine/segment"
)

// interval is a range of key hashes, including both ends.
type interval struct{ lo, hi uint64 }

func (iv interval) contains(hash uint64) bool { return iv.lo <= hash && hash <= iv.hi }

// partOf returns the interval of hashes that belong to a part.
func partOf(part, parts int) interval {
	lo, _ := bits.Div64(uint64(part), 0, uint64(parts))
	if part+1 == parts {
		return interval{lo, math.MaxUint64}
	}
	hi, _ := bits.Div64(uint64(part+1), 0, uint64(parts))
	return interval{lo, hi - 1}
}

// rangesOf returns the hash ranges [first, end) of a segment that overlap an interval.
func (g *committedSegment) rangesOf(iv interval) (first, end int) {
	return g.RangeIndex(iv.lo), g.RangeIndex(iv.hi) + 1
}

// weight returns the stored bytes of an interval, and the memory that loading and grouping it can need.
func (v view) weight(iv interval) (bytes, weight int64) {
	for _, g := range v.segments {
		n, w := g.weight(iv)
		bytes, weight = bytes+n, weight+w
	}
	return bytes, weight
}

func (g *committedSegment) weight(iv interval) (bytes, weight int64) {
	first, end := g.rangesOf(iv)
	bytes = int64(g.Offsets[end] - g.Offsets[first])
	return bytes, bytes + int64(float64(bytes)*g.entriesPerByte())*entryOverhead + bytes/8
}

func (g *committedSegment) entriesPerByte() float64 {
	return float64(g.ledger.Pieces+g.ledger.Marks) / float64(max(g.StoredLen(), 1))
}

// finestBits returns the binary logarithm of the number of hash ranges in the segment with the most
// ranges.
func (v view) finestBits() (bits uint8) {
	for _, g := range v.segments {
		bits = max(bits, g.Bits)
	}
	return bits
}

// nextInterval returns the longest interval that starts at lo, ends at hi or before, and fits in
// budget bytes of memory. If none fits, it returns the shortest one, and tooLarge is true.
func (v view) nextInterval(lo, hi uint64, budget int64) (iv interval, bytes int64, tooLarge bool) {
	bits := v.finestBits()
	for r := segment.RangeIndex(lo, bits); ; r++ {
		_, rangeEnd := segment.HashBounds(r, r+1, bits)
		wider := interval{lo, min(rangeEnd, hi)}
		n, weight := v.weight(wider)
		if weight > budget {
			if iv == (interval{}) {
				return wider, n, true
			}
			return iv, bytes, false
		}
		iv, bytes = wider, n
		if iv.hi == hi {
			return iv, bytes, false
		}
	}
}
