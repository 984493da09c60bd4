// Package nearest finds the name that an unknown one probably meant.
package nearest

import (
	"fmt"
	"strings"
)

// To returns the name that is nearest to a word: the same but for capitals, or
// with about a quarter of its letters wrong, missing or too many at most. "" is
// none. With more, it would be another word: median is not mean.
func To(word string, names []string) string {
	nearest, limit := "", (len([]rune(word))+1)/4+1
	for _, name := range names {
		if d := distance(strings.ToLower(word), strings.ToLower(name)); d < limit {
			nearest, limit = name, d
		}
	}
	return nearest
}

// Hint returns a question for the end of a message, "" if no name is near.
func Hint(word string, names []string) string {
	if name := To(word, names); name != "" {
		return fmt.Sprintf(" (did you mean %q?)", name)
	}
	return ""
}

// distance is the number of letters to change, add, leave out or swap with their
// neighbour to make one word of the other (optimal string alignment).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	var before, last []int
	for i := range len(x) + 1 {
		row := make([]int, len(y)+1)
		for j := range row {
			switch {
			case i == 0 || j == 0:
				row[j] = i + j
				continue
			case x[i-1] == y[j-1]:
				row[j] = last[j-1]
			default:
				row[j] = 1 + min(last[j-1], last[j], row[j-1])
			}
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(y)]
}
