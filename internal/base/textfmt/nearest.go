package textfmt

import (
	"fmt"
	"strings"
)

// maxWord is the maximum length of a word that Nearest looks for.
const maxWord = 64

// Nearest returns the name nearest to word, or "". It ignores case and allows about a quarter of the
// letters to be wrong, missing or added. If no name is near enough, Nearest returns the shortest name
// that word abbreviates. It returns "" for words longer than maxWord bytes, because peers can send
// words of any length.
func Nearest(word string, names []string) string {
	if len(word) > maxWord {
		return ""
	}
	closest, limit := "", (len([]rune(word))+1)/4+1
	for _, name := range names {
		if len(name) > 4*maxWord {
			continue
		}
		if d := editDistance(strings.ToLower(word), strings.ToLower(name)); d < limit {
			closest, limit = name, d
		}
	}
	if closest != "" {
		return closest
	}
	for _, name := range names {
		if isAbbreviation(strings.ToLower(word), strings.ToLower(name)) && (closest == "" || len(name) < len(closest)) {
			closest = name
		}
	}
	return closest
}

// isAbbreviation reports whether word consists of at least three letters of name, in their order
// and beginning with the first, such as cnt for count.
func isAbbreviation(word, name string) bool {
	if len(word) < 3 || name == "" || word[0] != name[0] {
		return false
	}
	for i := range len(name) {
		if word != "" && word[0] == name[i] {
			word = word[1:]
		}
	}
	return word == ""
}

// Hint returns text for the end of a message, such as ` (did you mean "count"?)`, or "" if no name
// is close.
func Hint(word string, names []string) string {
	if name := Nearest(word, names); name != "" {
		return fmt.Sprintf(" (did you mean %q?)", name)
	}
	return ""
}

// editDistance returns the number of letters to change, add, remove or swap with a neighbor to
// turn one word into the other (optimal string alignment).
func editDistance(a, b string) int {
	x, y := []rune(a), []rune(b)
	var prevPrev, prev []int // the two rows before row
	for i := range len(x) + 1 {
		row := make([]int, len(y)+1)
		for j := range row {
			switch {
			case i == 0 || j == 0:
				row[j] = i + j
				continue
			case x[i-1] == y[j-1]:
				row[j] = prev[j-1]
			default:
				row[j] = 1 + min(prev[j-1], prev[j], row[j-1])
			}
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], prevPrev[j-2]+1)
			}
		}
		prevPrev, prev = prev, row
	}
	return prev[len(y)]
}
