package records

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/base/where"
)

// Kind is a result of [Splitter.Next].
type Kind uint8

const (
	More    Kind = iota // the data contains no further complete record
	Data                // a record with its fields
	Header              // the header: see Columns
	Blank               // an empty line
	Bad                 // an invalid record: see Err
	Broken              // the rest of the file cannot be split: see Err
	Dropped             // a valid record that the selector drops; Splitter.Next never returns it
)

// Splitter splits data into records and their fields. Its results are valid until the next Feed.
type Splitter struct {
	Record  []byte   // the record with its line ending, for Data, Header, Blank and Bad
	Whole   []byte   // for Data: the record as changed by Layout.Ragged; nil if it is unchanged
	Mended  Mended   // number of changed records since the last Feed
	Values  [][]byte // for Data: the requested fields, in the order of the request; nil for a missing optional field
	Bare    []bool   // for Data in JSON lines: true for each value that is not a string
	Quoted  []bool   // for Data in CSV records with a quote, if all fields are requested or Layout.Values is set: true for each quoted value
	Columns []string // for Header: the column names
	Line    int64    // number of the record's first line, from 1
	Err     error    // for Bad and Broken: the reason

	layout Layout
	fields []Field
	parts  []int // indexes of fields that are parts
	// readFields holds the indexes of the fields to which Layout.Values applies.
	readFields []int
	// valuesChange is true if a part, such as lower(x), or a number can have characters that are not in the data.
	valuesChange bool
	seenFields   []bool           // JSON lines: true for each field that was in a record, even as null
	byName       map[string][]int // JSON lines: indexes of fields by name; nil for a few fields
	sawRecord    bool             // JSON lines: there was a valid record
	allFields    bool             // CSV, TSV and text: all fields are requested
	lateFields   int              // JSON lines: number of leading fields whose errors only set lateErr
	lateErr      error            // JSON lines: the record's first error in these fields
	exclusive    bool             // JSON lines: a record with a member that was not requested is bad
	sep          []byte           // field separator
	fieldCount   int              // CSV and TSV: number of fields in each record, 0 until it is known
	requested    []requestedField // CSV and TSV: requested fields, sorted by index; nil until fieldCount is known

	ends     ends
	buf      []byte // data from Feed
	pos      int    // index in buf of the next record
	final    bool   // buf extends to the end of the file
	lines    int64  // number of lines before pos
	atHeader bool   // the next record is the header
	quote    int    // index in buf of the next quote; unknown if less than pos
	arena    []byte // memory for decoded values

	filledBytes int // bytes added by mend since the last Feed
	maxFilled   int // limit for filledBytes; 0 means none
}

type requestedField struct {
	index int // index in the record
	slot  int // index in Values
}

// newFlags and newFields return n values in their own cache lines. Each splitter writes its values
// for each record, and two cores that write to the same cache line slow each other down.
func newFlags(n int) []bool    { return make([]bool, n, max(n, 64)) }
func newFields(n int) [][]byte { return make([][]byte, n, (n+7)&^7) }

// NewSplitter returns a splitter that extracts the given fields. columns holds the names in the header,
// or is nil if there is no header or it is not yet known.
func NewSplitter(layout Layout, fields []Field, columns []string) *Splitter {
	s := &Splitter{
		layout: layout, fields: fields, sep: layout.Separator(), fieldCount: len(columns),
		Values: newFields(len(fields)), Bare: newFlags(len(fields)), seenFields: newFlags(len(fields)),
	}
	if len(s.sep) == 1 {
		s.ends.sep = uint64(s.sep[0]) * eachByte
	}
	if layout.Format == JSONL {
		s.byName = indexFields(fields)
	}
	for i, f := range fields {
		if (f.Null || f.Number) && layout.Values != nil {
			s.readFields = append(s.readFields, i)
			s.valuesChange = s.valuesChange || f.Number
		}
		if f.Part != nil {
			s.parts = append(s.parts, i)
			s.valuesChange = s.valuesChange || f.Part.Changes()
		}
	}
	return s
}

// NewFieldSplitter returns a splitter that extracts all fields of each record, then parts. For JSON
// lines, it extracts no fields.
func NewFieldSplitter(layout Layout, columns []string, parts ...Field) *Splitter {
	s := NewSplitter(layout, parts, columns)
	s.allFields = true
	return s
}

// NewMemberSplitter returns a splitter for JSON lines. It returns Bad for records with a member that
// is not among fields.
func NewMemberSplitter(fields []Field) *Splitter {
	s := NewSplitter(Layout{Format: JSONL}, fields, nil)
	s.exclusive = true
	return s
}

// Begin prepares for a new file. If the layout has a header, the next record is the header.
func (s *Splitter) Begin() {
	s.lines = 0
	s.atHeader = s.layout.HasHeader()
}

// Feed sets the data to split, which must begin where the last record ended. If final is true, data
// extends to the end of the file and must end with a newline.
func (s *Splitter) Feed(data []byte, final bool) {
	s.buf, s.pos, s.final, s.quote, s.arena = data, 0, final, -1, s.arena[:0]
	s.ends.lineIndex = len(s.ends.lines) // discard the ends in the old data
	s.Mended, s.filledBytes = Mended{}, 0
}

// Pos returns the number of bytes of the data that have been split.
func (s *Splitter) Pos() int { return s.pos }

// Next splits the next record.
func (s *Splitter) Next() Kind {
	kind := s.split()
	if kind == Data && s.parts != nil {
		kind = s.cutParts()
	}
	return kind
}

// cutParts replaces the values of the fields that are parts.
func (s *Splitter) cutParts() Kind {
	first := len(s.Values) - len(s.fields) // if all fields are requested, parts come after them
	for _, i := range s.parts {
		value, err := s.cutPart(s.fields[i].Part, s.Values[first+i])
		if err != nil {
			s.Err = err
			return Bad
		}
		s.Values[first+i], s.Bare[i] = value, false
	}
	return Data
}

func (s *Splitter) cutPart(part *where.Part, value []byte) ([]byte, error) {
	if len(value) == 0 { // nil, for a missing field, remains nil
		return value, nil
	}
	if !part.Changes() {
		from, to, err := part.Of(value)
		return value[from:to], err
	}
	newValue, err := part.Append(s.reserve(len(value)+64), value)
	if err == nil && len(newValue) <= cap(s.arena)-len(s.arena) { // otherwise Append has allocated memory
		newValue = s.commit(newValue)
	}
	return newValue, err
}

// split is like Next, without cutting parts.
func (s *Splitter) split() Kind {
	s.Line, s.Whole = s.lines+1, nil
	if s.requested != nil && !s.atHeader && s.nextPlain() {
		return s.readValues(false)
	}
	n := bytes.IndexByte(s.buf[s.pos:], '\n') + 1
	end := s.pos + n
	if n == 0 {
		end = len(s.buf)
	}
	if s.layout.Format == CSV && s.hasQuoteBefore(end) {
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
		return s.splitText(line)
	}
	return s.splitPlain(line)
}

func (s *Splitter) splitPlain(line []byte) Kind {
	// In TSV with one column, an empty line is a record with a missing value.
	if len(line) == 0 && (s.atHeader || s.layout.Format != TSV || s.fieldCount != 1) {
		return Blank
	}
	if s.atHeader {
		s.atHeader = false
		s.Columns = nil
		for f := range bytes.SplitSeq(line, s.sep) {
			s.Columns = append(s.Columns, string(f))
		}
		return Header
	}
	n := bytes.Count(line, s.sep) + 1
	if s.mends(n) {
		var ok bool
		line, ok = s.mendPlain(line, n)
		if !ok {
			return Broken
		}
		n = s.fieldCount
	}
	if n != s.fieldCount && !s.setCount(n) {
		return Bad
	}
	if s.requested == nil && !s.resolveFields() {
		return s.missingField(n)
	}
	sep, start, k := s.sep[0], 0, 0 // field k begins at index start
	for i := range s.requested {
		req := s.requested[i]
		for ; k < req.index; k++ {
			start += bytes.IndexByte(line[start:], sep) + 1
		}
		f := line[start:]
		if k < n-1 {
			f = f[:bytes.IndexByte(f, sep)]
		}
		s.Values[req.slot] = f
		// keep the position if the next request is for the same field
		if i+1 < len(s.requested) && s.requested[i+1].index > k {
			start, k = start+len(f)+1, k+1
		}
	}
	return s.readValues(false)
}

// resolveFields sets s.requested. It returns false if a requested field does not exist. s.fieldCount
// must be known.
func (s *Splitter) resolveFields() bool {
	s.requested = make([]requestedField, 0, len(s.fields))
	firstSlot := 0 // index in s.Values of the first of s.fields; if allFields is set, they follow the record's fields
	if s.allFields {
		firstSlot = s.fieldCount
	}
	for slot, f := range s.fields {
		i := f.Index
		if i < 0 {
			i += s.fieldCount
		}
		if i < 0 || i >= s.fieldCount {
			s.requested = nil
			return false
		}
		s.requested = append(s.requested, requestedField{i, firstSlot + slot})
	}
	if s.allFields {
		for i := range s.fieldCount {
			s.requested = append(s.requested, requestedField{i, i})
		}
		s.Values = newFields(s.fieldCount + len(s.fields))
	}
	if s.allFields || s.readFields != nil {
		s.Quoted = newFlags(len(s.Values))
	}
	slices.SortFunc(s.requested, func(a, b requestedField) int { return a.index - b.index })
	return true
}

// setCount sets s.fieldCount to n, the number of fields in a record, if it is unknown. If it is known
// and not n, setCount sets Err and returns false.
func (s *Splitter) setCount(n int) bool {
	if s.fieldCount == 0 {
		s.fieldCount = n
	}
	if n == s.fieldCount {
		return true
	}
	subject := "the header has"
	if !s.layout.HasHeader() {
		subject = "the first record has"
	}
	s.Err = fmt.Errorf("the record has %s, but %s %d", textfmt.Plural(int64(n), "field"), subject, s.fieldCount)
	switch {
	case n == s.fieldCount+1 && s.layout.HasHeader() && !s.layout.RowNames:
		s.Err = fmt.Errorf("%w (a field that contains the separator, such as a decimal comma, needs quotes; if each record begins with a name, as in files written by R, add --row-names)", s.Err)
	case n > s.fieldCount && s.layout.Format == CSV:
		s.Err = fmt.Errorf("%w (a field that contains the separator, such as a decimal comma, needs quotes)", s.Err)
	}
	s.Err = &CountError{s.Err}
	return false
}

// missingField sets Err for a record that lacks a requested field and returns Bad. n is the number
// of the record's fields.
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
	s.Err = fmt.Errorf("field %d is missing: the record has %s", missing, textfmt.Plural(int64(n), "field"))
	return Bad
}

// reserve returns an empty slice of the arena with capacity for n bytes. To keep the bytes until the
// next Feed, call commit.
func (s *Splitter) reserve(n int) []byte {
	const minSize, maxSize = 16 << 10, 1 << 20
	if cap(s.arena)-len(s.arena) < n {
		s.arena = make([]byte, 0, max(minSize, n, min(2*cap(s.arena), maxSize)))
	}
	return s.arena[len(s.arena):]
}

// commit marks the memory of value as used and returns value. value must have been appended to the
// result of reserve.
func (s *Splitter) commit(value []byte) []byte {
	s.arena = s.arena[:len(s.arena)+len(value)]
	return value[:len(value):len(value)]
}

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
