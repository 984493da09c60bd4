package records

import (
	"bytes"
)

// space holds true for the white space of ASCII.
var space = [256]bool{' ': true, '\t': true, '\v': true, '\f': true, '\r': true}

// keyOfText finds the key in a line of text.
func (s *Splitter) keyOfText(line []byte) Kind {
	if s.layout.Sep != "" {
		return s.keyOfSeparated(line)
	}
	i := s.field.Index
	if i < 0 {
		return s.keyFromEnd(line, -1-i)
	}
	at := 0
	for n := 0; ; n++ {
		for at < len(line) && space[line[at]] {
			at++
		}
		if at == len(line) {
			if n == 0 {
				return Blank
			}
			return s.noField(n)
		}
		from := at
		for at < len(line) && !space[line[at]] {
			at++
		}
		if n == i {
			return s.found(line[from:at])
		}
	}
}

// keyFromEnd finds the field before which skip fields are passed, looking from
// the end of the line.
func (s *Splitter) keyFromEnd(line []byte, skip int) Kind {
	at := len(line)
	for n := 0; ; n++ {
		for at > 0 && space[line[at-1]] {
			at--
		}
		if at == 0 {
			if n == 0 {
				return Blank
			}
			return s.noField(n)
		}
		to := at
		for at > 0 && !space[line[at-1]] {
			at--
		}
		if n == skip {
			return s.found(line[at:to])
		}
	}
}

// keyOfSeparated finds the key in a line whose fields stand between separators.
func (s *Splitter) keyOfSeparated(line []byte) Kind {
	if len(line) == 0 {
		return Blank
	}
	sep := []byte(s.layout.Sep)
	i := s.field.Index
	if i < 0 {
		// Separators are found from the left, so that "aaa" has one "aa" and it is
		// the first.
		i += bytes.Count(line, sep) + 1
	}
	for n := 0; ; n++ {
		field, rest, more := bytes.Cut(line, sep)
		switch {
		case n == i:
			return s.found(field)
		case !more:
			return s.noField(n + 1)
		}
		line = rest
	}
}
