package records

import "bytes"

// space holds true for the white space of ASCII.
var space = [256]bool{' ': true, '\t': true, '\v': true, '\f': true, '\r': true}

func (s *Splitter) fieldsOfText(line []byte) Kind {
	if len(s.sep) == 0 {
		line = bytes.TrimFunc(line, isSpace)
	}
	if len(line) == 0 {
		return Blank
	}
	if s.all {
		s.allOfText(line)
		return Data
	}
	for slot, f := range s.fields {
		var value []byte
		n := -1 // the number of fields, where there are too few
		switch {
		case len(s.sep) > 0:
			value, n = s.separated(line, f.Index)
		case f.Index < 0:
			value, n = fieldFromEnd(line, -1-f.Index)
		default:
			value, n = fieldFromStart(line, f.Index)
		}
		if n >= 0 {
			return s.noField(n)
		}
		s.Values[slot] = value
	}
	return Data
}

func isSpace(r rune) bool { return r < 128 && space[r] }

// fieldFromStart finds the field before which skip fields are passed. Where
// there are too few, it returns how many there are, else -1.
func fieldFromStart(line []byte, skip int) ([]byte, int) {
	at := 0
	for n := 0; ; n++ {
		for at < len(line) && space[line[at]] {
			at++
		}
		if at == len(line) {
			return nil, n
		}
		from := at
		for at < len(line) && !space[line[at]] {
			at++
		}
		if n == skip {
			return line[from:at], -1
		}
	}
}

// fieldFromEnd does so looking from the end of the line.
func fieldFromEnd(line []byte, skip int) ([]byte, int) {
	at := len(line)
	for n := 0; ; n++ {
		for at > 0 && space[line[at-1]] {
			at--
		}
		if at == 0 {
			return nil, n
		}
		to := at
		for at > 0 && !space[line[at-1]] {
			at--
		}
		if n == skip {
			return line[at:to], -1
		}
	}
}

// separated does so in a line whose fields stand between separators.
func (s *Splitter) separated(line []byte, i int) ([]byte, int) {
	if i < 0 {
		// Separators are found from the left, so that "aaa" has one "aa" and it is
		// the first.
		if i += bytes.Count(line, s.sep) + 1; i < 0 {
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

func (s *Splitter) allOfText(line []byte) {
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
