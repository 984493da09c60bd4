package records

import (
	"bytes"
	"fmt"

	"github.com/go-partd/partd"
)

// Kind says what Next found.
type Kind uint8

// What Next finds.
const (
	More   Kind = iota // nothing more that is whole
	Data               // a record with its key
	Header             // the header: Columns are its fields
	Blank              // an empty line
	Bad                // a record whose key cannot be found: Err says why
	Broken             // a file that cannot be split from here on: Err says why
)

// Splitter finds one record after the other. What it returns lies in the data
// fed to it, or is valid until the next Feed.
type Splitter struct {
	Record  []byte   // the record with its line ending, of Data, Header, Blank and Bad
	Key     []byte   // of Data
	Columns []string // of Header
	Line    int64    // the line in which the record begins, from 1
	Err     error    // of Bad and Broken

	layout Layout
	field  Field
	sep    byte
	count  int // fields of each record of CSV and TSV, 0: as many as the first has

	buf    []byte
	pos    int
	final  bool
	lines  int64 // lines before pos
	header bool  // the next record is the header
	quote  int   // the first quote in buf at or after pos, if it is not before pos
	arena  []byte
}

// NewSplitter returns a splitter. Columns are those of the header, nil where
// there is none or where it is not known yet.
func NewSplitter(layout Layout, field Field, columns []string) *Splitter {
	return &Splitter{
		layout: layout, field: field, sep: layout.sep(), count: len(columns),
	}
}

// Begin begins a file.
func (s *Splitter) Begin() {
	s.lines = 0
	s.header = s.layout.HasHeader()
}

// Feed gives the splitter what follows. Data begins where the last record
// ended; final says that the file ends with it, in a newline.
func (s *Splitter) Feed(data []byte, final bool) {
	s.buf, s.pos, s.final, s.quote, s.arena = data, 0, final, -1, nil
}

// Pos returns how much of the data was consumed, in bytes.
func (s *Splitter) Pos() int { return s.pos }

// Next finds the next record.
func (s *Splitter) Next() Kind {
	s.Line = s.lines + 1
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
	line := trimEnding(s.Record)
	switch s.layout.Format {
	case JSONL:
		return s.keyOfJSON(line)
	case Text:
		return s.keyOfText(line)
	}
	return s.keyOfPlain(line)
}

// trimEnding returns a line without its line ending.
func trimEnding(line []byte) []byte {
	n := len(line) - 1
	if n > 0 && line[n-1] == '\r' {
		n--
	}
	return line[:n]
}

// keyOfPlain finds the key in a line without quotes.
func (s *Splitter) keyOfPlain(line []byte) Kind {
	if len(line) == 0 {
		return Blank
	}
	if s.header {
		s.header = false
		s.Columns = nil
		for f := range bytes.SplitSeq(line, []byte{s.sep}) {
			s.Columns = append(s.Columns, string(f))
		}
		return Header
	}
	n := bytes.Count(line, []byte{s.sep}) + 1
	if n != s.count && !s.setCount(n) {
		return Bad
	}
	i := s.field.Index
	if i < 0 {
		i += n
	}
	if i < 0 || i >= n {
		return s.noField(n)
	}
	return s.found(cut(line, s.sep, i, n))
}

// cut returns field i of the n fields of a line, looking from the nearer end.
func cut(line []byte, sep byte, i, n int) []byte {
	if i <= n/2 {
		for ; i > 0; i-- {
			line = line[bytes.IndexByte(line, sep)+1:]
		}
		if end := bytes.IndexByte(line, sep); end >= 0 {
			line = line[:end]
		}
		return line
	}
	for ; i < n-1; i++ {
		line = line[:bytes.LastIndexByte(line, sep)]
	}
	return line[bytes.LastIndexByte(line, sep)+1:]
}

// setCount notes the number of fields of the first record, and tells whether n
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

func (s *Splitter) noField(n int) Kind {
	want := s.field.Index + 1
	if s.field.Index < 0 {
		want = s.field.Index
	}
	s.Err = fmt.Errorf("there is no field %d: the record has %s", want, plural(n, "field"))
	return Bad
}

func (s *Splitter) found(key []byte) Kind {
	if len(key) > partd.MaxKeyLen {
		s.Err = fmt.Errorf("%w: the key has %d bytes, the limit is %d", partd.ErrTooLarge, len(key), partd.MaxKeyLen)
		return Bad
	}
	s.Key = key
	return Data
}

// keep copies a decoded key to memory that lives until the next Feed and after
// it: the arena is never written to twice.
func (s *Splitter) keep(key []byte) []byte {
	const chunk = 16 << 10
	if cap(s.arena)-len(s.arena) < len(key) {
		s.arena = make([]byte, 0, max(chunk, len(key)))
	}
	from := len(s.arena)
	s.arena = append(s.arena, key...)
	return s.arena[from:]
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
