package records

import (
	"bytes"
	"errors"
)

var (
	errAfterQuote = errors.New("text follows the closing quote of a quoted field (a quote inside the field must be doubled)")
	errUnclosed   = errors.New("the quoted field that begins here is never closed")
)

// hasQuoteBefore reports whether there is a quote between s.pos and end. It caches the quote's index.
func (s *Splitter) hasQuoteBefore(end int) bool {
	if s.quote < s.pos {
		s.quote = len(s.buf)
		if q := bytes.IndexByte(s.buf[s.pos:], '"'); q >= 0 {
			s.quote = s.pos + q
		}
	}
	return s.quote < end
}

// nextQuoted splits a CSV record that contains a quote. A quote that is neither at the beginning of a
// field nor in a quoted field is data.
func (s *Splitter) nextQuoted() Kind {
	var (
		data          = s.buf[s.pos:]
		sep           = s.sep[0]
		pending       = s.requested
		problem       error
		columns       []string
		i, fieldCount int  // index in data; number of fields before it
		newlineIndex  = -1 // index of the next newline; unknown if less than i
		lines         = int64(1)
		keptEnd       int // end of the last field to keep
	)
	if pending == nil && s.fieldCount != 0 && s.resolveFields() {
		pending = s.requested
	}
	for isLast := false; !isLast; fieldCount++ {
		var field []byte
		quoted, doubled := false, false
		if i < len(data) && data[i] == '"' {
			from := i + 1
			to := 0
			to, doubled = closingQuote(data, from)
			if to < 0 {
				return s.unclosedKind(data[:i])
			}
			field, quoted, i = data[from:to], true, to+1
			lines += int64(bytes.Count(field, newline))
		}
		if newlineIndex < i {
			k := bytes.IndexByte(data[i:], '\n')
			if k < 0 {
				return More
			}
			newlineIndex = i + k
		}
		end := newlineIndex
		if k := bytes.IndexByte(data[i:newlineIndex], sep); k >= 0 {
			end = i + k
		} else {
			isLast = true
		}
		suffix := data[i:end]
		switch {
		case !quoted:
			field = suffix
			if k := len(field) - 1; isLast && k >= 0 && field[k] == '\r' {
				field = field[:k]
			}
		case len(suffix) != 0 && !(isLast && len(suffix) == 1 && suffix[0] == '\r'):
			problem = errAfterQuote
		}
		i = end + 1
		if fieldCount < s.fieldCount {
			keptEnd = end
		}
		if s.atHeader {
			if doubled {
				field = s.unquote(field)
			}
			columns = append(columns, string(field))
			continue
		}
		for value := field; len(pending) > 0 && pending[0].index == fieldCount; pending = pending[1:] {
			if doubled {
				value, doubled = s.unquote(field), false
			}
			s.Values[pending[0].slot] = value
			if s.Quoted != nil {
				s.Quoted[pending[0].slot] = quoted
			}
		}
	}
	start := s.pos
	s.pos += i
	s.Record = s.buf[start:s.pos:s.pos]
	s.lines += lines
	if problem != nil {
		s.Err = problem
		if s.atHeader {
			return Broken
		}
		return Bad
	}
	if s.atHeader {
		s.atHeader, s.Columns = false, columns
		return Header
	}
	if s.fieldCount == 0 {
		// The number of fields, which was unknown, is now known: split the record again.
		s.fieldCount, s.pos, s.lines = fieldCount, start, s.Line-1
		return s.nextQuoted()
	}
	if s.mends(fieldCount) {
		if !s.mend(fieldCount, min(keptEnd, lineEnd(s.Record))) {
			return Broken
		}
		for _, p := range pending {
			s.Values[p.slot] = s.Record[:0]
			if s.Quoted != nil {
				s.Quoted[p.slot] = false
			}
		}
		fieldCount = s.fieldCount
	}
	if fieldCount != s.fieldCount && !s.setCount(fieldCount) {
		return Bad
	}
	if s.requested == nil {
		return s.missingField(fieldCount)
	}
	return s.readValues(true)
}

var newline = []byte{'\n'}

// closingQuote returns the index of the closing quote of the field whose text begins at index i, or
// -1 if data ends first. doubled reports whether the field contains doubled quotes.
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

// unclosedKind returns the kind of a record with a quoted field that does not end in the data.
// head is the record's text before the field.
func (s *Splitter) unclosedKind(head []byte) Kind {
	if !s.final {
		return More
	}
	s.Line += int64(bytes.Count(head, []byte{'\n'}))
	s.Err = errUnclosed
	return Broken
}
