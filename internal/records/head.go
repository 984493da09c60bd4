package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/go-partd/partd"
)

const mark = "\uFEFF"

// begin takes the byte order mark and the header that a file may begin with. It
// returns false if what was read so far does not hold the whole header, and not
// the whole file either.
func (r *reader) begin(eof bool) (bool, error) {
	s, t := r.split, &r.tally
	from := r.start
	if rest := r.block[from:]; len(rest) >= len(mark) && string(rest[:len(mark)]) == mark {
		from += len(mark)
	}
	if !r.cfg.Layout.HasHeader() {
		t.HeaderBytes += int64(from - r.start)
		r.start = from
		return true, nil
	}
	s.Begin()
	s.Feed(r.block[from:], eof)
	var lines, blank int64
	for {
		switch kind := s.Next(); kind {
		case More:
			if !eof {
				return false, nil
			}
			// Nothing but empty lines: a block counts them.
			t.HeaderBytes += int64(from - r.start)
			r.start = from
			return true, nil
		case Blank:
			lines++
			blank += int64(len(s.Record))
			continue
		case Header:
			if diff := DiffColumns(r.cfg.Columns, s.Columns); diff != "" {
				r.errLine = s.Line
				return false, fmt.Errorf("the header is not the one expected: %s", diff)
			}
			t.BlankLines += lines
			t.BlankBytes += blank
			t.HeaderBytes += int64(from-r.start+s.Pos()) - blank
			r.start = from + s.Pos()
			r.skipped = s.lines
			return true, nil
		default:
			r.errLine = s.Line
			return false, s.Err
		}
	}
}

// countFields finds out how many fields the records have, where no header tells.
func (r *reader) countFields(data []byte) {
	l := r.cfg.Layout
	if r.split.count != 0 || l.Format != CSV && l.Format != TSV {
		return
	}
	r.split.Feed(data, true)
	for r.split.count == 0 {
		if kind := r.split.Next(); kind == More || kind == Broken {
			return
		}
	}
}

// ErrPacked is wrapped by the error for a file that is packed in a way, or in an
// encoding, that is not read.
var ErrPacked = errors.New("not plain text")

// packed holds what files begin with that are not text, nor compressed in a way
// that is read.
var packed = []struct{ magic, what, todo string }{
	{"\xfd7zXZ\x00", "it looks xz-compressed", "decompress it first: xz -dc FILE"},
	{"\xff\x06\x00\x00sNaPpY", "it looks snappy-compressed", "decompress it first"},
	{"PK\x03\x04", "it looks like a zip archive (.xlsx and .ods are such)", "unpack it, or save it as CSV, first"},
	{"PAR1", "it looks like a Parquet file", "convert it to CSV first: partd-tables convert FILE"},
	{"\xff\xfe", "it looks like UTF-16", "convert it first: iconv -f UTF-16 -t UTF-8 FILE"},
	{"\xfe\xff", "it looks like UTF-16", "convert it first: iconv -f UTF-16 -t UTF-8 FILE"},
}

// checkPlain tells by its beginning whether a file is plain text.
func checkPlain(head []byte) error {
	for _, p := range packed {
		if bytes.HasPrefix(head, []byte(p.magic)) {
			return fmt.Errorf("%w: %s; %s", ErrPacked, p.what, p.todo)
		}
	}
	return nil
}

// checkEndings tells by its beginning whether a file has lines that end in CR
// alone, which would be one record. An editor may have added a newline at the end.
func checkEndings(head []byte, l Layout) error {
	line, rest, found := bytes.Cut(bytes.TrimPrefix(head, []byte(mark)), newline)
	line = bytes.TrimRight(line, "\r")
	at, quoted := -1, false
	for i, c := range line {
		if c == '\r' && !quoted {
			at = i
			break
		}
		quoted = quoted != (c == '"' && l.Format == CSV)
	}
	// In JSON a CR is white space, and fields may hold some.
	if at < 0 || l.Format == JSONL && !json.Valid(line[:at]) || l.Format == Text && found ||
		l.Format != JSONL && len(rest) > 0 {
		return nil
	}
	return fmt.Errorf("%w: its lines end in CR alone, as on an old Macintosh; convert it first: tr '\\r' '\\n' < FILE", ErrPacked)
}

// Start is the beginning of a file.
type Start struct {
	Columns []string // of the header, nil for none
	Header  []byte   // as it is written, with a newline at its end
	Read    []byte   // what was read
}

// Head reads the beginning of an input, as far as it takes to see that it is
// plain text and to find the header, where the layout has one.
func Head(name string, f io.Reader, layout Layout, maxRecord int) (*Start, error) {
	const first = 64 << 10
	var head []byte
	for size := first; ; size = min(4*size, maxRecord+1) {
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
		if kind := s.findHeader(head, err != nil); kind == Header {
			return &Start{s.Columns, s.Record, head}, nil
		} else if kind == Broken || kind == Bad {
			return nil, &Error{name, s.Line, s.Err}
		}
		if err != nil {
			return &Start{Read: head}, nil // nothing but empty lines, if anything
		}
		if size > maxRecord {
			return nil, &Error{name, 1, fmt.Errorf("%w: the header has more than %d bytes, a quarter of --memory", partd.ErrTooLarge, maxRecord)}
		}
	}
}

// findHeader finds the header at the beginning of a file of which data are the
// first bytes, or all.
func (s *Splitter) findHeader(data []byte, all bool) Kind {
	data = bytes.TrimPrefix(data, []byte(mark))
	if all && len(data) > 0 && data[len(data)-1] != '\n' {
		data = append(data[:len(data):len(data)], '\n')
	}
	s.Begin()
	s.Feed(data, all)
	for {
		if kind := s.Next(); kind != Blank {
			return kind
		}
	}
}
