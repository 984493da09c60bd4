package records

import (
	"bytes"
	"fmt"
	"slices"
)

// Kind is the kind of a result of Next.
type Kind uint8

// The kinds of results.
const (
	More   Kind = iota // there is no more whole record
	Data               // a record with its fields
	Header             // the header, whose fields are in Columns
	Blank              // an empty line
	Bad                // a record whose fields cannot be found: Err says why
	Broken             // the rest of the file cannot be split: Err says why
)

// Splitter finds one record after another. Its results are slices of the data fed to it, or
// valid until the next Feed.
type Splitter struct {
	Record  []byte   // the record with its line ending, for Data, Header, Blank and Bad
	Values  [][]byte // for Data: the requested fields, in the requested order; nil for a missing optional field
	Bare    []bool   // for Data in JSON lines: which values are numbers, true or false, not strings
	Quoted  []bool   // for Data in CSV records with a quote, if all fields are requested: which values are quoted
	Columns []string // for Header
	Line    int64    // the record's first line, from 1
	Err     error    // for Bad and Broken

	layout     Layout
	fields     []Field
	seenFields []bool           // JSON lines: which fields were in any record, even as null
	byName     map[string][]int // JSON lines: the indexes of each name in fields, nil for a few fields
	sawObject  bool             // JSON lines: there was a valid record
	allFields  bool             // CSV, TSV and text: all fields are requested
	noOthers   bool             // JSON lines: members that are not requested are errors
	sep        []byte           // the separator of fields
	count      int              // CSV and TSV: the number of fields of each record, 0 until it is known
	wants      []want           // CSV and TSV: the requested fields, by index; nil until count is known

	ends   ends
	buf    []byte
	pos    int
	final  bool
	lines  int64 // lines before pos
	header bool  // the next record is the header
	quote  int   // the first quote in buf at or after pos, unless quote < pos
	arena  []byte
}

// want is a requested field: its index in the record, and its index in Values.
type want struct{ index, slot int }

// NewSplitter returns a splitter that finds fields. columns are the header's columns, or nil if
// the header is missing or not known yet.
func NewSplitter(layout Layout, fields []Field, columns []string) *Splitter {
	s := &Splitter{
		layout: layout, fields: fields, sep: layout.Separator(), count: len(columns),
		Values: make([][]byte, len(fields)), Bare: make([]bool, len(fields)), seenFields: make([]bool, len(fields)),
	}
	if len(s.sep) == 1 {
		s.ends.sep = uint64(s.sep[0]) * eachByte
	}
	if layout.Format == JSONL {
		s.byName = indexFields(fields)
	}
	return s
}

// NewFieldSplitter returns a splitter that finds all fields of each record. For JSON lines it
// finds only the records.
func NewFieldSplitter(layout Layout, columns []string) *Splitter {
	s := NewSplitter(layout, nil, columns)
	s.allFields = true
	return s
}

// NewMemberSplitter returns a splitter for JSON lines. Objects must have no members except
// fields.
func NewMemberSplitter(fields []Field) *Splitter {
	s := NewSplitter(Layout{Format: JSONL}, fields, nil)
	s.noOthers = true
	return s
}

// Begin prepares for the beginning of a file.
func (s *Splitter) Begin() {
	s.lines = 0
	s.header = s.layout.HasHeader()
}

// Feed sets the next data, which must begin where the last record ended. final means that the
// file ends with this data, in a newline.
func (s *Splitter) Feed(data []byte, final bool) {
	s.buf, s.pos, s.final, s.quote, s.arena = data, 0, final, -1, s.arena[:0]
	s.ends.line = len(s.ends.lines) // the positions found refer to the old data
}

// Pos returns the number of bytes of data that were consumed.
func (s *Splitter) Pos() int { return s.pos }

// Next finds the next record.
func (s *Splitter) Next() Kind {
	s.Line = s.lines + 1
	if s.wants != nil && !s.header && s.nextPlain() {
		return Data
	}
	n := bytes.IndexByte(s.buf[s.pos:], '\n') + 1
	end := s.pos + n
	if n == 0 {
		end = len(s.buf)
	}
	if s.layout.Format == CSV && s.quoteBefore(end) {
		return s.nextQuoted()
	}
	if n == 0 {
		return More
	}
	s.Record = s.buf[s.pos:end:end]
	s.pos = end
	s.lines++
	line := s.Record[:n-1]
	if n > 1 && line[n-2] == '\r' {
		line = line[:n-2]
	}
	switch s.layout.Format {
	case JSONL:
		return s.parseObject(line)
	case Text:
		return s.fieldsOfText(line)
	}
	return s.fieldsOfPlain(line)
}

func (s *Splitter) fieldsOfPlain(line []byte) Kind {
	if len(line) == 0 && (s.header || s.layout.Format != TSV || s.count != 1) {
		return Blank // in TSV with one column it is a record with a missing value
	}
	if s.header {
		s.header = false
		s.Columns = nil
		for f := range bytes.SplitSeq(line, s.sep) {
			s.Columns = append(s.Columns, string(f))
		}
		return Header
	}
	n := bytes.Count(line, s.sep) + 1
	if n != s.count && !s.setCount(n) {
		return Bad
	}
	if s.wants == nil && !s.findWants() {
		return s.missingField(n)
	}
	sep, start, k := s.sep[0], 0, 0 // start is the index where field k begins
	for i := range s.wants {
		w := s.wants[i]
		for ; k < w.index; k++ {
			start += bytes.IndexByte(line[start:], sep) + 1
		}
		f := line[start:]
		if k < n-1 {
			f = f[:bytes.IndexByte(f, sep)]
		}
		s.Values[w.slot] = f
		if i+1 < len(s.wants) && s.wants[i+1].index > k {
			start, k = start+len(f)+1, k+1
		}
	}
	return Data
}

// findWants sets wants, after the number of fields is known. It returns false if a requested
// field does not exist.
func (s *Splitter) findWants() bool {
	s.wants = make([]want, 0, len(s.fields))
	for slot, f := range s.fields {
		i := f.Index
		if i < 0 {
			i += s.count
		}
		if i < 0 || i >= s.count {
			s.wants = nil
			return false
		}
		s.wants = append(s.wants, want{i, slot})
	}
	if s.allFields {
		for i := range s.count {
			s.wants = append(s.wants, want{i, i})
		}
		s.Values, s.Quoted = make([][]byte, s.count), make([]bool, s.count)
	}
	slices.SortFunc(s.wants, func(a, b want) int { return a.index - b.index })
	return true
}

// setCount sets the number of fields by the first record, and reports whether n is the right
// number for a record.
func (s *Splitter) setCount(n int) bool {
	if s.count == 0 {
		s.count = n
	}
	if n == s.count {
		return true
	}
	subject := "the header has"
	if !s.layout.HasHeader() {
		subject = "the first record has"
	}
	s.Err = fmt.Errorf("the record has %s, but %s %d", plural(n, "field"), subject, s.count)
	return false
}

// missingField returns the kind for a record of n fields that lacks a requested one.
func (s *Splitter) missingField(n int) Kind {
	missing := 0
	for _, f := range s.fields {
		if f.Index >= n {
			missing = f.Index + 1
		} else if f.Index < -n {
			missing = f.Index
		} else {
			continue
		}
		break
	}
	s.Err = fmt.Errorf("there is no field %d: the record has %s", missing, plural(n, "field"))
	return Bad
}

// reserve returns room in the arena for a decoded value of up to n bytes. The arena is valid
// until the next Feed.
func (s *Splitter) reserve(n int) []byte {
	const chunk = 16 << 10
	if cap(s.arena)-len(s.arena) < n {
		s.arena = make([]byte, 0, max(chunk, n))
	}
	return s.arena[len(s.arena):]
}

// commit marks a value that was appended to the result of reserve as used.
func (s *Splitter) commit(value []byte) []byte {
	s.arena = s.arena[:len(s.arena)+len(value)]
	return value[:len(value):len(value)]
}

// unquote replaces the doubled quotes of a quoted field.
func (s *Splitter) unquote(field []byte) []byte {
	out := s.reserve(len(field))
	for {
		q := bytes.IndexByte(field, '"')
		if q < 0 {
			return s.commit(append(out, field...))
		}
		out = append(out, field[:q+1]...)
		field = field[q+2:]
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
