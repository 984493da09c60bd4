package records

import (
	"bytes"
	"errors"
)

var (
	errAfterQuote = errors.New("a quoted field goes on after its closing quote (inside a quoted field a quote is written twice)")
	errUnclosed   = errors.New("a quoted field opens here and is never closed")
)

// quoteBefore tells whether there is a quote from pos to end. It searches each
// stretch of the data once.
func (s *Splitter) quoteBefore(end int) bool {
	if s.quote < s.pos {
		s.quote = len(s.buf)
		if q := bytes.IndexByte(s.buf[s.pos:], '"'); q >= 0 {
			s.quote = s.pos + q
		}
	}
	return s.quote < end
}

// span is a field of a record: where it is, quotes left out, and whether it
// holds quotes written twice.
type span struct {
	from, to int
	twice    bool
}

func (f span) decode(record []byte) []byte {
	if f.twice {
		return bytes.ReplaceAll(record[f.from:f.to], []byte(`""`), []byte(`"`))
	}
	return record[f.from:f.to]
}

// nextQuoted finds a record of CSV that holds a quote, field by field. A quote
// opens a quoted field at the field's beginning only; elsewhere it is data.
func (s *Splitter) nextQuoted() Kind {
	want := s.field.Index
	if want < 0 {
		want += s.count
	}
	var (
		rest    = s.buf[s.pos:]
		key     = span{to: -1}
		bad     error
		columns []string
		i, n    int // in rest; fields found
	)
	for done := false; !done; n++ {
		var f span
		if i < len(rest) && rest[i] == '"' {
			opened := i
			f.from = i + 1
			if f.to, f.twice = closingQuote(rest, f.from); f.to < 0 {
				return s.unclosed(rest[:opened])
			}
			i = f.to + 1
			switch end := indexEither(rest[i:], s.sep, '\n'); {
			case end == 0 || end == 1 && rest[i] == '\r' && i+1 < len(rest) && rest[i+1] == '\n':
				i += end
			default:
				bad = errAfterQuote
				i += end
			}
		} else {
			f.from = i
			i += indexEither(rest[i:], s.sep, '\n')
			f.to = i
			if i < len(rest) && rest[i] == '\n' && i > f.from && rest[i-1] == '\r' {
				f.to--
			}
		}
		if i >= len(rest) {
			return More
		}
		if s.header {
			columns = append(columns, string(f.decode(rest)))
		}
		if n == want {
			key = f
		}
		done = rest[i] == '\n'
		i++
	}
	start := s.pos
	s.pos += i
	s.Record = s.buf[start:s.pos:s.pos]
	s.lines += int64(bytes.Count(s.Record, []byte{'\n'}))
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
	if s.count == 0 && s.field.Index < 0 {
		// Now that it is known how many fields there are: which one is the key?
		s.count, s.pos, s.lines = n, start, s.Line-1
		return s.nextQuoted()
	}
	if n != s.count && !s.setCount(n) {
		return Bad
	}
	if key.to < 0 {
		return s.noField(n)
	}
	if key.twice {
		return s.found(s.keep(key.decode(rest)))
	}
	return s.found(rest[key.from:key.to])
}

// closingQuote returns where the quoted field that begins at i has its closing
// quote, -1 if that is not in data, and whether quotes are written twice in it.
func closingQuote(data []byte, i int) (at int, twice bool) {
	for {
		q := bytes.IndexByte(data[i:], '"')
		if q < 0 || i+q+1 == len(data) {
			return -1, twice
		}
		i += q + 1
		if data[i] != '"' {
			return i - 1, twice
		}
		twice = true
		i++
	}
}

// unclosed is what to do where a quoted field, before which the record holds
// head, does not end in the data.
func (s *Splitter) unclosed(head []byte) Kind {
	if !s.final {
		return More
	}
	s.Line += int64(bytes.Count(head, []byte{'\n'}))
	s.Err = errUnclosed
	return Broken
}

// indexEither returns where a or b is first, len(data) where neither is.
func indexEither(data []byte, a, b byte) int {
	for i, c := range data {
		if c == a || c == b {
			return i
		}
	}
	return len(data)
}
