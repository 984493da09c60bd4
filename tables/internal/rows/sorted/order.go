package sorted

import (
	"cmp"
	"slices"
)

const (
	minRadixRows = 256 // fewer rows are sorted by comparing words
	maxDepth     = 16  // values whose words are equal up to this depth are compared

	sortRowBytes = 2 * 16  // two entries, which sorting a row takes besides the row
	minBlockRows = 1 << 16 // a block may have as many rows, whatever its memory
)

// entry is a row to sort, and a word of the key column that is being sorted.
type entry struct {
	word uint64
	row  uint32
}

// order returns the rows 0 to n-1 in sorted order. Rows with equal keys keep their order.
func (k keys) order(n int) []uint32 {
	rows := make([]entry, n)
	for i := range rows {
		rows[i].row = uint32(i)
	}
	k.sort(rows, make([]entry, n), 0)
	order := make([]uint32, n)
	for i, r := range rows {
		order[i] = r.row
	}
	return order
}

// sort sorts rows that have equal words of the first column up to depth. Rows must be ascending. sort overwrites spare,
// which must be at least as long.
func (k keys) sort(rows, spare []entry, depth int) {
	c := k[0]
	c.setWords(rows, depth)
	sortWords(rows, spare)
	for start, end := 0, 0; start < len(rows); start = end {
		word := rows[start].word
		for end = start + 1; end < len(rows) && rows[end].word == word; end++ {
		}
		group, rest, nextDepth := rows[start:end], k, depth+1
		if c.isComplete(word, depth) {
			rest, nextDepth = k[1:], 0
		}
		switch {
		case len(group) == 1 || len(rest) == 0:
		case len(group) < minRadixRows || nextDepth == maxDepth:
			slices.SortFunc(group, func(a, b entry) int {
				return cmp.Or(rest.compare(int(a.row), rest, int(b.row)), cmp.Compare(a.row, b.row))
			})
		default:
			rest.sort(group, spare, nextDepth)
		}
	}
}

// sortWords sorts rows by their words. Rows must be ascending, and rows with equal words keep their order. sortWords
// overwrites spare.
func sortWords(rows, spare []entry) {
	if len(rows) < minRadixRows {
		slices.SortFunc(rows, func(a, b entry) int { return cmp.Or(cmp.Compare(a.word, b.word), cmp.Compare(a.row, b.row)) })
		return
	}
	var counts [8][256]uint32
	for _, r := range rows {
		for digit := range counts {
			counts[digit][byte(r.word>>(8*digit))]++
		}
	}
	from, to := rows, spare[:len(rows)]
	for digit := range counts {
		next, shift := &counts[digit], 8*digit
		if int(next[byte(rows[0].word>>shift)]) == len(rows) {
			continue // all words have the same digit
		}
		position := uint32(0)
		for i, n := range next {
			next[i] = position
			position += n
		}
		for _, r := range from {
			d := byte(r.word >> shift)
			to[next[d]] = r
			next[d]++
		}
		from, to = to, from
	}
	if &from[0] != &rows[0] {
		copy(rows, from)
	}
}
