package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-partd/partd"
)

// ByteOrderMark can precede the content of a file in UTF-8.
const ByteOrderMark = "\uFEFF"

// begin skips the byte order mark and the header of the file whose beginning is in r.block. If
// r.block ends within the header, begin returns false and must be called again with more data. eof
// reports whether r.block contains the file's end.
func (r *reader) begin(eof bool) (bool, error) {
	s, t := r.splitter, &r.tally
	rest := bytes.TrimPrefix(r.block[r.start:], []byte(ByteOrderMark))
	from := len(r.block) - len(rest)
	if !r.cfg.Layout.HasHeader() {
		t.HeaderBytes += int64(from - r.start)
		r.start = from
		return true, nil
	}
	kind := s.findHeader(rest, eof)
	switch {
	case kind == More && !eof:
		return false, nil
	case kind == More:
		r.errLine = 1
		return false, ErrNoHeader
	case kind != Header:
		r.errLine = s.Line
		return false, s.Err
	}
	if diff := DiffColumns(r.cfg.Columns, s.Columns); diff != "" {
		r.errLine = s.Line
		return false, fmt.Errorf("the expected and the actual header differ: %s", diff)
	}
	t.BlankLines += s.Line - 1
	t.BlankBytes += int64(s.Pos() - len(s.Record))
	t.HeaderBytes += int64(from - r.start + len(s.Record))
	r.start = from + s.Pos()
	r.skipped = s.lines
	return true, nil
}

// countFields sets the splitter's fieldCount from the first record in data, unless the count is
// known.
func (r *reader) countFields(data []byte) {
	l := r.cfg.Layout
	if r.splitter.fieldCount != 0 || l.Format != CSV && l.Format != TSV {
		return
	}
	r.splitter.Feed(data, true)
	for r.splitter.fieldCount == 0 {
		if kind := r.splitter.Next(); kind == More || kind == Broken {
			return
		}
	}
}

// ErrUnsupported means that a file has an unsupported compression or encoding.
var ErrUnsupported = errors.New("not plain text")

// unsupported lists unsupported file formats. Their files begin with magic.
var unsupported = []struct{ magic, description, advice string }{
	{"\xfd7zXZ\x00", "it looks xz-compressed", "decompress it first: xz -dc FILE"},
	{"\xff\x06\x00\x00sNaPpY", "it looks snappy-compressed", "decompress it first"},
	{"PK\x03\x04", "it looks like a zip archive, such as .xlsx and .ods", "unpack it first, or save it as CSV"},
	{"PAR1", "it looks like a Parquet file", "use partd-tables split or sort, or convert it to CSV first: partd-tables convert FILE"},
}

// ErrNoHeader is the error for a file that has no record, not even a header, although its layout has one.
var ErrNoHeader = errors.New("the file is empty, but its first line must contain the column names")

// CheckEncoding returns an error if head, which is the beginning of a decoded file, looks like text in UTF-16 or UTF-32.
func CheckEncoding(head []byte) error {
	name := wideEncoding(head)
	if strings.HasPrefix(name, "UTF-32") {
		return fmt.Errorf("%w: it looks like %s; convert it first: iconv -f %[2]s -t UTF-8 FILE", ErrUnsupported, name)
	} else if name != "" {
		return fmt.Errorf("%w: it looks like %s; set the encoding to %s", ErrUnsupported, name, strings.ToLower(name))
	}
	return nil
}

// wideEncoding returns the form of UTF-16 or UTF-32 that a byte order mark or the positions of NUL bytes suggest, or "".
// In most languages, many characters have a code below 256, so that their other bytes are NUL.
func wideEncoding(head []byte) string {
	if mark := markedEncoding(head); mark == "UTF-32" {
		return mark
	}
	var nuls [4]int // numbers of NUL bytes, by their index modulo 4
	head = head[:min(len(head), 4<<10)]
	for i, c := range head {
		if c == 0 {
			nuls[i%4]++
		}
	}
	half := len(head) / 2
	// isWide reports whether many of n bytes are NUL and almost none of the others.
	isWide := func(nuls, n, others int) bool { return nuls >= 8 && 3*nuls > n && 16*others <= nuls }
	switch even, odd := nuls[0]+nuls[2], nuls[1]+nuls[3]; {
	case isWide(odd, half, even):
		return "UTF-16LE"
	case isWide(even, half, odd):
		return "UTF-16BE"
	case 16*(nuls[2]+nuls[3]) >= 15*half && isWide(nuls[2]+nuls[3], half, nuls[0]):
		return "UTF-32LE"
	case 16*(nuls[0]+nuls[1]) >= 15*half && isWide(nuls[0]+nuls[1], half, nuls[3]):
		return "UTF-32BE"
	}
	return ""
}

func checkPlain(head []byte) error {
	for _, p := range unsupported {
		if bytes.HasPrefix(head, []byte(p.magic)) {
			return fmt.Errorf("%w: %s; %s", ErrUnsupported, p.description, p.advice)
		}
	}
	return CheckEncoding(head)
}

// checkEndings returns an error if a file's lines end in CR only. Such a file would be one record.
// The file can still end with a newline that an editor has added. head is the beginning of the
// file.
func checkEndings(head []byte, l Layout) error {
	line, rest, hasNewline := bytes.Cut(bytes.TrimPrefix(head, []byte(ByteOrderMark)), newline)
	line = bytes.TrimRight(line, "\r")
	crIndex, quoted := -1, false
	for i, c := range line {
		if c == '\r' && !quoted {
			crIndex = i
			break
		}
		quoted = quoted != (c == '"' && l.Format == CSV)
	}
	// In JSON, a CR is white space; in other formats, fields may contain CRs.
	if crIndex < 0 || l.Format == JSONL && !json.Valid(line[:crIndex]) || l.Format == Text && hasNewline ||
		l.Format != JSONL && len(rest) > 0 {
		return nil
	}
	return fmt.Errorf("%w: its lines end in CR only, as on old Macintoshes; convert it first: tr '\\r' '\\n' < FILE", ErrUnsupported)
}

var numberOrDate = regexp.MustCompile(`^ *([-+]?[0-9]*[.,]?[0-9]+([eE][-+]?[0-9]+)?|[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}.*) *$`)

// DataInHeader returns the index of the first column name that looks like data (a number, a date,
// or a value that occurs again below), or -1. It also returns -1 if a name that is not a number
// heads a column of numbers, which proves that the record is a header, or if the names are successive years.
func DataInHeader(columns []string, isNumeric, isRepeated []bool) int {
	first, count, years, year := -1, 0, 0, 0
	for i, name := range columns {
		if isNumber := numberOrDate.MatchString(name); !isNumber && isNumeric[i] && name != "" {
			return -1
		} else if !isNumber && !isRepeated[i] {
			continue
		}
		if first < 0 {
			first = i
		}
		count++
		n, _ := strconv.Atoi(name)
		if n >= 1900 && n < 2100 && (year == 0 || n == year+1) {
			years++
		}
		year = n
	}
	if count > 1 && years == count {
		return -1
	}
	return first
}

// DataInFirstRecord returns the result of [DataInHeader] for data, which is the beginning of a file with a header.
func DataInFirstRecord(data []byte, l Layout, columns []string) int {
	isOther, hasNumber, isRepeated := make([]bool, len(columns)), make([]bool, len(columns)), make([]bool, len(columns))
	s := NewFieldSplitter(l, columns)
	s.Begin()
	s.Feed(bytes.TrimPrefix(data, []byte(ByteOrderMark)), false)
	for kind := s.Next(); kind != More && kind != Broken; kind = s.Next() {
		for i := 0; kind == Data && i < len(columns); i++ {
			if v := s.Values[i]; len(v) > 0 {
				isRepeated[i] = isRepeated[i] || columns[i] == string(v)
				isOther[i] = isOther[i] || !numberOrDate.Match(v)
				hasNumber[i] = !isOther[i]
			}
		}
	}
	return DataInHeader(columns, hasNumber, isRepeated)
}

// Start is the beginning of a file.
type Start struct {
	Columns []string // column names in the header, or nil
	Header  []byte   // header with its newline and, if Layout.RowNames is set, RowNamesColumn
	Read    []byte   // all bytes that were read, including the header
}

// StartSize is the number of bytes that [ReadStart] reads, unless the header is longer or the input is shorter.
const StartSize = 64 << 10

// ReadStart reads the beginning of an input, including the header if the layout has one. It returns
// an error if the input is not plain text. maxRecord is the maximum length of the header in bytes.
func ReadStart(name string, f io.Reader, layout Layout, maxRecord int) (*Start, error) {
	var head []byte
	for size := StartSize; ; size = min(4*size, maxRecord+1) {
		n := len(head)
		head = append(make([]byte, 0, size+1), head...)[:size]
		m, err := io.ReadFull(f, head[n:])
		head = head[:n+m]
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return nil, err
		}
		if err := errors.Join(checkPlain(head), checkEndings(head, layout)); err != nil {
			return nil, &Error{File: name, Err: err}
		}
		if !layout.HasHeader() {
			return &Start{Read: head}, nil
		}
		s := NewSplitter(layout, nil, nil)
		if kind := s.findHeader(bytes.TrimPrefix(head, []byte(ByteOrderMark)), err != nil); kind == Header {
			header := s.Record
			if layout.Encoding != "" && bytes.IndexByte(header, invalidText) >= 0 {
				return nil, &Error{name, s.Line, InvalidText(layout.Encoding)}
			}
			if layout.RowNames {
				header = slices.Concat([]byte(RowNamesColumn), layout.Separator(), header)
			}
			return &Start{s.Columns, header, head}, nil
		} else if kind == Broken || kind == Bad {
			return nil, &Error{name, s.Line, s.Err}
		}
		if err != nil {
			return nil, &Error{File: name, Err: ErrNoHeader}
		}
		if size > maxRecord {
			return nil, &Error{name, 1, fmt.Errorf("%w: the header is longer than %d bytes, a quarter of --memory", partd.ErrTooLarge, maxRecord)}
		}
	}
}

// findHeader returns Header after it has set s.Columns, or another Kind if it finds no header. data
// is the beginning of a file without its byte order mark, or the whole file if complete is true.
func (s *Splitter) findHeader(data []byte, complete bool) Kind {
	if complete && len(data) > 0 && data[len(data)-1] != '\n' {
		data = append(data[:len(data):len(data)], '\n')
	}
	s.Begin()
	s.Feed(data, complete)
	for {
		kind := s.Next()
		if kind == Header && s.layout.RowNames {
			s.Columns = slices.Insert(s.Columns, 0, RowNamesColumn)
		}
		if kind != Blank {
			return kind
		}
	}
}
