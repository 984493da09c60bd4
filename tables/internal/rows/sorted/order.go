package sorted

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/go-partd/partd/internal/engine/extsort"
)

const (
	minRadixRows = 256 // fewer rows are sorted by comparing words
	maxDepth     = 16  // values whose words are equal up to this depth are compared directly

	sortRowBytes = 2 * 16  // two entries, the memory that sorting a row takes besides the row itself
	minBlockRows = 1 << 16 // a block may have this many rows, whatever memory they take
)

// entry is a row to sort: Prefix is a word of the key column that is being sorted, and Ref is the row's number.
type entry = extsort.Entry

// order returns the rows 0 to n-1 in sorted order. Rows with equal keys keep their order.
func (k keys) order(n int) []uint32 {
	rows, spare := make([]entry, n), make([]entry, n)
	for i := range rows {
		rows[i].Ref, spare[i].Ref = uint64(i), uint64(i)
	}
	last, depth := k.joinWords(rows, spare)
	sortWords(rows, spare)
	last.sortGroups(rows, spare, depth)
	order := make([]uint32, n)
	for i, r := range rows {
		order[i] = uint32(r.Ref)
	}
	return order
}

// joinWords sets the words of rows to the joined words of the first columns, at their first depths. It omits the bits
// that are the same in all rows, which does not change the order. It returns the last joined column, with the columns
// after it, and the depth in this column. It overwrites the words in spare, which must have the same rows.
func (k keys) joinWords(rows, spare []entry) (last keys, depth int) {
	width := 0
	for column, level := k, 0; ; {
		column[0].setWords(spare, level)
		all, common, complete := uint64(0), ^uint64(0), 0
		for _, r := range spare {
			all, common = all|r.Prefix, common&r.Prefix
			if column[0].isComplete(r.Prefix, level) {
				complete++
			}
		}
		varying := all &^ common
		width += bits.OnesCount64(varying)
		if width > 64 {
			return last, depth
		}
		last, depth = column, level
		appendBits(rows, spare, varying)
		switch {
		case complete == len(rows) && len(column) > 1:
			column, level = column[1:], 0
		case complete == 0 && level+1 < maxDepth:
			level++
		default: // some values have no further words
			return last, depth
		}
	}
}

// appendBits extracts the bits in mask from each word of from and appends them to the same row's word in rows.
func appendBits(rows, from []entry, mask uint64) {
	for mask != 0 {
		// Take the highest run of adjacent bits.
		high := bits.Len64(mask)
		n := bits.LeadingZeros64(^(mask << (64 - high)))
		low := high - n
		run := uint64(1)<<n - 1
		for i := range rows {
			rows[i].Prefix = rows[i].Prefix<<n | from[i].Prefix>>low&run
		}
		mask &= uint64(1)<<low - 1
	}
}

// sort sorts rows whose words in the first column are equal at all depths below depth. Row numbers must be ascending.
// sort overwrites spare, which must be at least as long.
func (k keys) sort(rows, spare []entry, depth int) {
	k[0].setWords(rows, depth)
	sortWords(rows, spare)
	k.sortGroups(rows, spare, depth)
}

// sortGroups sorts each group of rows with equal words by the words that follow the first column's word at depth.
func (k keys) sortGroups(rows, spare []entry, depth int) {
	c := k[0]
	for start, end := 0, 0; start < len(rows); start = end {
		word := rows[start].Prefix
		for end = start + 1; end < len(rows) && rows[end].Prefix == word; end++ {
		}
		if end == start+1 {
			continue
		}
		group, rest, nextDepth := rows[start:end], k, depth+1
		c.setWords(group[:1], depth) // the word was joined with others
		if c.isComplete(group[0].Prefix, depth) {
			rest, nextDepth = k[1:], 0
		}
		switch {
		case len(rest) == 0:
		case len(group) < minRadixRows || nextDepth == maxDepth:
			slices.SortFunc(group, func(a, b entry) int {
				return cmp.Or(rest.compare(int(a.Ref), rest, int(b.Ref)), cmp.Compare(a.Ref, b.Ref))
			})
		default:
			rest.sort(group, spare, nextDepth)
		}
	}
}

// sortWords sorts rows by their words. Row numbers must be ascending; rows with equal words keep their order. sortWords
// overwrites spare.
func sortWords(rows, spare []entry) {
	if len(rows) < minRadixRows {
		slices.SortFunc(rows, func(a, b entry) int { return cmp.Or(cmp.Compare(a.Prefix, b.Prefix), cmp.Compare(a.Ref, b.Ref)) })
		return
	}
	extsort.SortByPrefix(rows, spare)
}
