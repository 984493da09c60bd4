package where

import (
	"fmt"
	"strings"
)

// CutQuoted cuts text in double quotes from the beginning of list. Two quotes in the text stand for one. It returns
// false if list does not begin with such text.
func CutQuoted(list string) (content, rest string, ok bool) {
	if !strings.HasPrefix(list, `"`) {
		return "", list, false
	}
	content, end, ok := readQuoted(list, 0)
	return content, list[end:], ok
}

// CutElement cuts an element, such as x as "new name", and the comma after it from the beginning of
// list. It returns the text before "as", the name after it ("" if there is none), and whether a
// comma follows.
func CutElement(list string) (element, name, rest string, more bool, err error) {
	element, rest, more = strings.Cut(list, ",")
	as := IndexAs(element)
	if as < 0 {
		return element, "", rest, more, nil
	}
	element, name = list[:as], strings.TrimLeft(list[as+len(" as "):], " ")
	content, after, isQuoted := CutQuoted(name)
	if !isQuoted {
		content, after = name, ""
		if comma := strings.IndexByte(name, ','); comma >= 0 {
			content, after = name[:comma], name[comma:]
		}
		content = strings.TrimRight(content, " ")
	}
	after = strings.TrimLeft(after, " ")
	if content == "" || strings.HasPrefix(name, `"`) && !isQuoted || after != "" && after[0] != ',' {
		return "", "", "", false, fmt.Errorf(`"as" needs a name, in double quotes if it contains a comma, not %q`, name)
	}
	return element, content, strings.TrimPrefix(after, ","), after != "", nil
}

// IndexAs returns the index of the first " as ", the keyword before a new name, or -1.
func IndexAs(element string) int {
	lower, upper := strings.Index(element, " as "), strings.Index(element, " AS ")
	if lower < 0 || upper >= 0 && upper < lower {
		return upper
	}
	return lower
}
