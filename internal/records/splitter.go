package records

import (
	"bytes"
	"fmt"
	"slices"
)

// Kind says what Next found.
type Kind uint8

// What Next finds.
const (
	More   Kind = iota // nothing more that is whole
	Data               // a record with its key
	Header             // the header: Columns are its fields
	Blank              // an empty line
	Bad                // a record whose fields cannot be found: Err says why
	Broken             // a file that cannot be split from here on: Err says why
)

// Splitter finds one record after the other. What it returns lies in the data
// fed to it, or is valid until the next Feed.
type Splitter struct {
	Record  []byte   // the record with its line ending, of Data, Header, Blank and Bad
	Values  [][]byte // of Data: the fields asked for, in the order asked; nil for an optional one that is not there
	Bare    []bool   // of Data, JSON lines: which of the values are no strings: numbers, true and false
	Quoted  []bool   // of Data, CSV with a quote in the record, if all fields are looked for: which of the values have quotes around them
	Columns []string // of Header
	Line    int64    // the line in which the record begins, from 1
	Err     error    // of Bad and Broken

	layout Layout
	fields []Field
	found  []bool           // JSON lines: which of the fields some record had, null too
	byName map[string][]int // JSON lines: the places of each name in fields, nil if these are few
	looked bool             // JSON lines: there was a record that could have them
	all    bool             // Values are all fields, of CSV, TSV and text
	only   bool             // JSON lines: a member that was not asked for is an error
	sep    []byte           // between fields
	count  int              // fields of each record of CSV and TSV, 0: as many as the first has
	wants  []want           // of CSV and TSV: the fields asked for, by their place in the record; nil until count is known

	ends   ends
	buf    []byte
	pos    int
	final  bool
	lines  int64 // lines before pos
	header bool  // the next record is the header
	quote  int   // the first quote in buf at or after pos, if it is not before pos
	arena  []byte
}

// want is a field that is asked for: its place in the record, and in Values.
type want struct{ index, slot int }

// NewSplitter returns a splitter that looks for fields. Columns are those of
// the header, nil where there is none or where it is not known yet.
func NewSplitter(layout Layout, fields []Field, columns []string) *Splitter {
	s := &Splitter{
		layout: layout, fields: fields, sep: layout.Separator(), count: len(columns),
		Values: make([][]byte, len(fields)), Bare: make([]bool, len(fields)), found: make([]bool, len(fields)),
	}
	if len(s.sep) == 1 {
		s.ends.sep = uint64(s.sep[0]) * eachByte
	}
	if layout.Format == JSONL {
		s.byName = indexFields(fields)
	}
	return s
}

// NewFieldSplitter returns a splitter that finds all fields of a record. For
// JSON lines it finds the lines alone, each an object.
func NewFieldSplitter(layout Layout, columns []string) *Splitter {
	s := NewSplitter(layout, nil, columns)
	s.all = true
	return s
}

// NewMemberSplitter returns a splitter for JSON lines, of which no object may
// have another member than the fields.
func NewMemberSplitter(fields []Field) *Splitter {
	s := NewSplitter(Layout{Format: JSONL}, fields, nil)
	s.only = true
	return s
}

// Begin begins a file.
func (s *Splitter) Begin() {
	s.lines = 0
	s.header = s.layout.HasHeader()
}

// Feed gives the splitter what follows. Data begins where the last record
// ended; final says that the file ends with it, in a newline.
func (s *Splitter) Feed(data []byte, final bool) {
	s.buf, s.pos, s.final, s.quote, s.arena = data, 0, final, -1, s.arena[:0]
	s.ends.line = len(s.ends.lines) // forgets what was found: the data go on elsewhere
}

// Pos returns how much of the data was consumed, in bytes.
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
		return s.membersOf(line)
	case Text:
		return s.fieldsOfText(line)
	}
	return s.fieldsOfPlain(line)
}

func (s *Splitter) fieldsOfPlain(line []byte) Kind {
	if len(line) == 0 && (s.header || s.layout.Format != TSV || s.count != 1) {
		return Blank // of one column, it is a record with a missing value
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
		return s.noField(n)
	}
	sep, at, k := s.sep[0], 0, 0 // field k begins at at
	for i := range s.wants {
		w := s.wants[i]
		for ; k < w.index; k++ {
			at += bytes.IndexByte(line[at:], sep) + 1
		}
		f := line[at:]
		if k < n-1 {
			f = f[:bytes.IndexByte(f, sep)]
		}
		s.Values[w.slot] = f
		if i+1 < len(s.wants) && s.wants[i+1].index > k {
			at, k = at+len(f)+1, k+1
		}
	}
	return Data
}

// findWants finds out where in a record the fields asked for are, now that it is
// known how many it has. It returns false where one is not there.
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
	if s.all {
		for i := range s.count {
			s.wants = append(s.wants, want{i, i})
		}
		s.Values, s.Quoted = make([][]byte, s.count), make([]bool, s.count)
	}
	slices.SortFunc(s.wants, func(a, b want) int { return a.index - b.index })
	return true
}

// setCount notes the number of fields of the first record, and reports whether n
// is what a record should have.
func (s *Splitter) setCount(n int) bool {
	if s.count == 0 {
		s.count = n
	}
	if n == s.count {
		return true
	}
	what := "the header has"
	if !s.layout.HasHeader() {
		what = "the first record has"
	}
	s.Err = fmt.Errorf("the record has %s, but %s %d", plural(n, "field"), what, s.count)
	return false
}

// noField is what to do with a record of n fields that lacks one asked for.
func (s *Splitter) noField(n int) Kind {
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

// room makes room in the arena for a decoded value of n bytes at most. What is
// in the arena lives until the next Feed.
func (s *Splitter) room(n int) []byte {
	const chunk = 16 << 10
	if cap(s.arena)-len(s.arena) < n {
		s.arena = make([]byte, 0, max(chunk, n))
	}
	return s.arena[len(s.arena):]
}

// keep notes that a value was appended to what room returned.
func (s *Splitter) keep(value []byte) []byte {
	s.arena = s.arena[:len(s.arena)+len(value)]
	return value[:len(value):len(value)]
}

// unquote returns what a field in quotes, with quotes written twice, stands for.
func (s *Splitter) unquote(field []byte) []byte {
	out := s.room(len(field))
	for {
		q := bytes.IndexByte(field, '"')
		if q < 0 {
			return s.keep(append(out, field...))
		}
		out = append(out, field[:q+1]...)
		field = field[q+2:]
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
