package records

import "bytes"

var space = [256]bool{' ': true, '\t': true, '\v': true, '\f': true, '\r': true}

func (s *Splitter) splitText(line []byte) Kind {
	if len(s.sep) == 0 {
		line = bytes.TrimFunc(line, isSpace)
	}
	if len(line) == 0 {
		return Blank
	}
	if s.allFields {
		s.splitAllText(line)
		n := len(s.Values)
		for _, f := range s.fields {
			i := f.Index
			if i < 0 {
				i += n
			}
			if i < 0 || i >= n {
				return s.missingField(n)
			}
			s.Values = append(s.Values, s.Values[i])
		}
		return Data
	}
	for slot, f := range s.fields {
		var value []byte
		n := -1 // number of the record's fields if f is missing
		switch {
		case len(s.sep) > 0:
			value, n = s.separatedField(line, f.Index)
		case f.Index < 0:
			value, n = fieldFromEnd(line, -1-f.Index)
		default:
			value, n = fieldFromStart(line, f.Index)
		}
		if n >= 0 {
			return s.missingField(n)
		}
		s.Values[slot] = value
	}
	return Data
}

func isSpace(r rune) bool { return r < 128 && space[r] }

// fieldFromStart returns the field with the given index, and -1. If the line has too few fields, it
// returns nil and their number.
func fieldFromStart(line []byte, index int) ([]byte, int) {
	pos := 0
	for n := 0; ; n++ {
		for pos < len(line) && space[line[pos]] {
			pos++
		}
		if pos == len(line) {
			return nil, n
		}
		from := pos
		for pos < len(line) && !space[line[pos]] {
			pos++
		}
		if n == index {
			return line[from:pos], -1
		}
	}
}

// fieldFromEnd is like fieldFromStart, but index counts fields from the end of the line.
func fieldFromEnd(line []byte, index int) ([]byte, int) {
	pos := len(line)
	for n := 0; ; n++ {
		for pos > 0 && space[line[pos-1]] {
			pos--
		}
		if pos == 0 {
			return nil, n
		}
		to := pos
		for pos > 0 && !space[line[pos-1]] {
			pos--
		}
		if n == index {
			return line[pos:to], -1
		}
	}
}

// separatedField is like fieldFromStart for a line with separators. A negative index i counts from
// the end.
func (s *Splitter) separatedField(line []byte, i int) ([]byte, int) {
	if i < 0 {
		// Search from the left, because separators can overlap: the only "aa" in "aaa" is the first.
		i += bytes.Count(line, s.sep) + 1
		if i < 0 {
			return nil, bytes.Count(line, s.sep) + 1
		}
	}
	for n := 0; ; n++ {
		field, rest, more := bytes.Cut(line, s.sep)
		switch {
		case n == i:
			return field, -1
		case !more:
			return nil, n + 1
		}
		line = rest
	}
}

func (s *Splitter) splitAllText(line []byte) {
	s.Values = s.Values[:0]
	for more := true; more; {
		var field []byte
		if len(s.sep) > 0 {
			field, line, more = bytes.Cut(line, s.sep)
		} else {
			field, _ = fieldFromStart(line, 0)
			line = line[len(field):]
			for len(line) > 0 && space[line[0]] {
				line = line[1:]
			}
			more = len(line) > 0
		}
		s.Values = append(s.Values, field)
	}
}
