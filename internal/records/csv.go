package records

import (
	"bytes"
	"errors"
)

var (
	errAfterQuote = errors.New("a quoted field goes on after its closing quote (inside a quoted field a quote is written twice)")
	errUnclosed   = errors.New("a quoted field opens here and is never closed")
)

// quoteBefore reports whether there is a quote between pos and end. It searches each part of
// the data only once.
func (s *Splitter) quoteBefore(end int) bool {
	if s.quote < s.pos {
		s.quote = len(s.buf)
		if q := bytes.IndexByte(s.buf[s.pos:], '"'); q >= 0 {
			s.quote = s.pos + q
		}
	}
	return s.quote < end
}

// nextQuoted finds a CSV record that contains a quote, field by field. A quote opens a quoted
// field only at the field's beginning; elsewhere it is data.
func (s *Splitter) nextQuoted() Kind {
	var (
		rest    = s.buf[s.pos:]
		sep     = s.sep[0]
		wants   = s.wants
		bad     error
		columns []string
		i, n    int  // index in rest; number of fields found
		line    = -1 // the next newline, unless line < i
		lines   = int64(1)
	)
	if wants == nil && s.count != 0 && s.findWants() {
		wants = s.wants
	}
	for done := false; !done; n++ {
		var field []byte
		quoted, doubled := false, false
		if i < len(rest) && rest[i] == '"' {
			from := i + 1
			to := 0
			if to, doubled = closingQuote(rest, from); to < 0 {
				return s.unclosedKind(rest[:i])
			}
			field, quoted, i = rest[from:to], true, to+1
			lines += int64(bytes.Count(field, newline))
		}
		if line < i {
			k := bytes.IndexByte(rest[i:], '\n')
			if k < 0 {
				return More
			}
			line = i + k
		}
		end := line
		if k := bytes.IndexByte(rest[i:line], sep); k >= 0 {
			end = i + k
		} else {
			done = true
		}
		switch after := rest[i:end]; {
		case !quoted:
			field = after
			if k := len(field) - 1; done && k >= 0 && field[k] == '\r' {
				field = field[:k]
			}
		case len(after) != 0 && !(done && len(after) == 1 && after[0] == '\r'):
			bad = errAfterQuote
		}
		i = end + 1
		if s.header {
			if doubled {
				field = s.unquote(field)
			}
			columns = append(columns, string(field))
			continue
		}
		for value := field; len(wants) > 0 && wants[0].index == n; wants = wants[1:] {
			if doubled {
				value, doubled = s.unquote(field), false
			}
			s.Values[wants[0].slot] = value
			if s.allFields {
				s.Quoted[wants[0].slot] = quoted
			}
		}
	}
	start := s.pos
	s.pos += i
	s.Record = s.buf[start:s.pos:s.pos]
	s.lines += lines
	if bad != nil {
		s.Err = bad
		if s.header {
			return Broken
		}
		return Bad
	}
	if s.header {
		s.header, s.Columns = false, columns
		return Header
	}
	if s.count == 0 {
		// Start again, now that the number of fields is known.
		s.count, s.pos, s.lines = n, start, s.Line-1
		return s.nextQuoted()
	}
	if n != s.count && !s.setCount(n) {
		return Bad
	}
	if s.wants == nil {
		return s.missingField(n)
	}
	return Data
}

var newline = []byte{'\n'}

// closingQuote returns the index of the quote that closes the quoted field beginning at i, or
// -1 if it is not in data. doubled reports whether the field contains doubled quotes.
func closingQuote(data []byte, i int) (end int, doubled bool) {
	for {
		q := bytes.IndexByte(data[i:], '"')
		if q < 0 || i+q+1 == len(data) {
			return -1, doubled
		}
		i += q + 1
		if data[i] != '"' {
			return i - 1, doubled
		}
		doubled = true
		i++
	}
}

// unclosedKind returns the kind for a quoted field that does not end in the data. head is the part
// of the record before the field.
func (s *Splitter) unclosedKind(head []byte) Kind {
	if !s.final {
		return More
	}
	s.Line += int64(bytes.Count(head, []byte{'\n'}))
	s.Err = errUnclosed
	return Broken
}
