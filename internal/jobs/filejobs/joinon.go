package filejobs

import (
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/base/where"
)

// splitOn splits the value of --on. A plain column name can contain an equals sign.
func (e *joinEngine) splitOn(left, right []string) (leftNames, rightNames []fieldName, err error) {
	if slices.Contains(left, e.On) && slices.Contains(right, e.On) {
		return []fieldName{{text: e.On}}, []fieldName{{text: e.On}}, nil
	}
	for rest, more := e.On, true; more; {
		var l fieldName
		l, rest, err = cutOn(rest, endOfLeft(rest, left, right))
		r := l
		if other, hasEquals := strings.CutPrefix(rest, "="); hasEquals && err == nil {
			r, rest, err = cutOn(other, len(plainName(other)))
		}
		if err != nil {
			return nil, nil, OptionErrorf("--on: %w", err)
		}
		rest, more = strings.CutPrefix(rest, ",")
		if l.isEmpty() || r.isEmpty() || !more && rest != "" {
			return nil, nil, OptionErrorf("--on %q is not a list of F or F=G, separated by commas", e.On)
		}
		leftNames, rightNames = append(leftNames, l), append(rightNames, r)
	}
	return leftNames, rightNames, nil
}

// cutOn cuts a name from the beginning of list. A plain name has the length n.
func cutOn(list string, n int) (name fieldName, rest string, err error) {
	name.text, rest, name.isQuoted, err = where.CutName(list)
	if err == nil && name.isEmpty() {
		name.text, rest = list[:n], list[n:]
	}
	return name, rest, err
}

// plainName returns the text of list before a comma or "as".
func plainName(list string) string {
	element, _, _ := strings.Cut(list, ",")
	if as := where.IndexAs(element); as >= 0 {
		return element[:as]
	}
	return element
}

// endOfLeft returns the end of the plain name F of F=G, or of F alone, at the beginning of list.
func endOfLeft(list string, left, right []string) int {
	element := plainName(list)
	if slices.Contains(left, element) && slices.Contains(right, element) {
		return len(element)
	}
	for i := range element { // use the first = that separates two column names, or precedes a quoted name or a part
		if element[i] != '=' {
			continue
		}
		other, _, isQuoted, _ := where.CutName(list[i+1:])
		if isQuoted || other != "" || slices.Contains(left, element[:i]) && slices.Contains(right, element[i+1:]) {
			return i
		}
	}
	return strings.IndexByte(element+"=", '=')
}
