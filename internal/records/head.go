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

// begin skips the byte order mark and the header of a file. It returns false if more of the
// file must be read to do that.
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
			// There are only empty lines, which are counted with a block.
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
				return false, fmt.Errorf("the header differs from the expected one: %s", diff)
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

// countFields determines the number of fields of the records if there is no header.
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

// ErrPacked is wrapped by the error for a file whose compression or encoding is not supported.
var ErrPacked = errors.New("not plain text")

// packed lists the first bytes of unsupported kinds of files.
var packed = []struct{ magic, what, advice string }{
	{"\xfd7zXZ\x00", "it looks xz-compressed", "decompress it first: xz -dc FILE"},
	{"\xff\x06\x00\x00sNaPpY", "it looks snappy-compressed", "decompress it first"},
	{"PK\x03\x04", "it looks like a zip archive, such as .xlsx and .ods", "unpack it first, or save it as CSV"},
	{"PAR1", "it looks like a Parquet file", "convert it to CSV first: partd-tables convert FILE"},
	{"\xff\xfe", "it looks like UTF-16", "convert it first: iconv -f UTF-16 -t UTF-8 FILE"},
	{"\xfe\xff", "it looks like UTF-16", "convert it first: iconv -f UTF-16 -t UTF-8 FILE"},
}

// checkPlain returns an error if a file with the given beginning is not plain text.
func checkPlain(head []byte) error {
	for _, p := range packed {
		if bytes.HasPrefix(head, []byte(p.magic)) {
			return fmt.Errorf("%w: %s; %s", ErrPacked, p.what, p.advice)
		}
	}
	return nil
}

// checkEndings returns an error if the lines of a file end only in CR, since it would be a
// single record. An editor may have added a newline at the end.
func checkEndings(head []byte, l Layout) error {
	line, rest, hasNewline := bytes.Cut(bytes.TrimPrefix(head, []byte(mark)), newline)
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
	return fmt.Errorf("%w: its lines end only in CR, as on old Macintoshes; convert it first: tr '\\r' '\\n' < FILE", ErrPacked)
}

// Start is the beginning of a file.
type Start struct {
	Columns []string // of the header, or nil
	Header  []byte   // the header as written, with a newline
	Read    []byte   // the bytes read
}

// ReadStart reads the beginning of an input, until it is known to be plain text and its
// header, if the layout has one, is found.
func ReadStart(name string, f io.Reader, layout Layout, maxRecord int) (*Start, error) {
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
			return &Start{Read: head}, nil // the file is empty or has only empty lines
		}
		if size > maxRecord {
			return nil, &Error{name, 1, fmt.Errorf("%w: the header has more than %d bytes, a quarter of --memory", partd.ErrTooLarge, maxRecord)}
		}
	}
}

// findHeader finds the header of a file. data is the beginning of the file, or all of it.
func (s *Splitter) findHeader(data []byte, complete bool) Kind {
	data = bytes.TrimPrefix(data, []byte(mark))
	if complete && len(data) > 0 && data[len(data)-1] != '\n' {
		data = append(data[:len(data):len(data)], '\n')
	}
	s.Begin()
	s.Feed(data, complete)
	for {
		if kind := s.Next(); kind != Blank {
			return kind
		}
	}
}
