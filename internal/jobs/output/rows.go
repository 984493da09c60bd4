package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/jobs/records"
)

// Value is a field in a row.
type Value struct {
	Text    []byte
	Missing bool // written as null in JSON lines
	JSON    bool // Text is a JSON value, such as a number
}

// Rows encodes rows of fields as CSV, TSV, JSON lines or text.
type Rows struct {
	layout  records.Layout
	columns []string
	names   [][]byte // for JSON lines: each column name as JSON, with a colon
	sep     []byte
}

// NewRows returns an encoder. columns holds the column names, or is nil if there are none. JSON lines
// require names.
func NewRows(layout records.Layout, columns []string) (*Rows, error) {
	r := &Rows{layout: layout, columns: columns, sep: layout.Separator()}
	if len(r.sep) == 0 {
		r.sep = []byte{' '}
	}
	if layout.Format != records.JSONL {
		return r, nil
	}
	if columns == nil {
		return nil, errors.New("jsonl needs column names, but the input has no header")
	}
	seen := map[string]bool{}
	for _, c := range columns {
		if seen[c] {
			return nil, fmt.Errorf("jsonl needs distinct column names, but two columns are named %q", c)
		}
		seen[c] = true
		name, err := AppendJSON(nil, []byte(c))
		if err != nil {
			return nil, fmt.Errorf("the column name %q: %w", c, err)
		}
		r.names = append(r.names, append(name, ':'))
	}
	return r, nil
}

// Plain describes a format where only fields with special bytes need quotes.
type Plain struct {
	Sep     byte
	Special [256]bool // true for bytes that an unquoted field must not contain
	First   [256]bool // true for bytes that an unquoted field must not begin with
}

// Plain describes the rows' format. It returns nil for JSON lines and text, and if the separator
// can occur in a number, true or false.
func (r *Rows) Plain() *Plain {
	var special, first string
	switch r.layout.Format {
	case records.CSV:
		special, first = string(r.sep)+"\"\n\r", textfmt.QuotedFirst
	case records.TSV:
		special = "\t\n\r"
	}
	if special == "" || strings.ContainsAny(special, "0123456789+-.eaflrstu") {
		return nil
	}
	p := &Plain{Sep: r.sep[0]}
	for _, c := range []byte(special) {
		p.Special[c], p.First[c] = true, true
	}
	for _, c := range []byte(first) {
		p.First[c] = true
	}
	return p
}

// Holds reports whether a field needs no quotes.
func (p *Plain) Holds(field []byte) bool {
	if len(field) > 0 && p.First[field[0]] {
		return false
	}
	for _, c := range field {
		if p.Special[c] {
			return false
		}
	}
	return true
}

// AppendHeader appends the header, if the layout has one.
func (r *Rows) AppendHeader(dst []byte) ([]byte, error) {
	if !r.layout.HasHeader() || r.columns == nil {
		return dst, nil
	}
	row := make([]Value, len(r.columns))
	for i, c := range r.columns {
		row[i].Text = []byte(c)
	}
	return r.Append(dst, row)
}

// Reorder returns the values of row with the given indexes. A nil order returns row.
func Reorder(row []Value, order []int) []Value {
	if order == nil {
		return row
	}
	selected := make([]Value, len(order))
	for i, index := range order {
		selected[i] = row[index]
	}
	return selected
}

// Append appends a row. If the format cannot represent a field, the error names the field.
func (r *Rows) Append(dst []byte, row []Value) ([]byte, error) {
	var err error
	for i := range row {
		dst, err = r.AppendStart(dst, i)
		if err != nil {
			return dst, err
		}
		dst, err = r.AppendField(dst, i, &row[i])
		if err != nil {
			return dst, err
		}
	}
	if len(row) == 1 && len(row[0].Text) == 0 {
		dst, err = r.AppendEmptyRow(dst)
		if err != nil {
			return dst, err
		}
	}
	return r.AppendEnd(dst), nil
}

// AppendEmptyRow appends the representation of a row whose only field is empty. The caller must have appended the
// field. It prevents an empty line, which readers may skip.
func (r *Rows) AppendEmptyRow(dst []byte) ([]byte, error) {
	switch {
	case r.layout.Format == records.CSV:
		dst = append(dst, `""`...)
	case r.layout.Format == records.TSV && r.layout.NoHeader:
		return dst, r.cannotWrite(0, errors.New("it is empty, which tsv with one column and no header cannot represent"))
	}
	return dst, nil
}

// AppendStart appends the bytes that precede field i in the format.
func (r *Rows) AppendStart(dst []byte, i int) ([]byte, error) {
	if r.layout.Format != records.JSONL {
		if i > 0 {
			dst = append(dst, r.sep...)
		}
		return dst, nil
	}
	if i >= len(r.names) {
		return dst, fmt.Errorf("a row has more fields than the %d columns", len(r.names))
	}
	if i == 0 {
		dst = append(dst, '{')
	} else {
		dst = append(dst, ',')
	}
	return append(dst, r.names[i]...), nil
}

// AppendEnd appends the bytes after the last field.
func (r *Rows) AppendEnd(dst []byte) []byte {
	if r.layout.Format == records.JSONL {
		dst = append(dst, '}')
	}
	return append(dst, '\n')
}

// AppendPiece appends one of several pieces of field i. For JSON lines, the pieces must together be
// JSON. The caller must call [Rows.AppendQuote] before the first piece and after the last one.
func (r *Rows) AppendPiece(dst []byte, i int, piece []byte) ([]byte, error) {
	switch r.layout.Format {
	case records.CSV:
		return textfmt.AppendDoubled(dst, piece), nil
	case records.JSONL:
		return append(dst, piece...), nil
	}
	return r.appendUnquoted(dst, i, piece)
}

// appendUnquoted appends the text of field i. The format must be TSV or text.
func (r *Rows) appendUnquoted(dst []byte, i int, text []byte) ([]byte, error) {
	if err := r.checkField(text); err != nil {
		return dst, r.cannotWrite(i, err)
	}
	return append(dst, text...), nil
}

// AppendQuote appends the quote before or after the pieces of a field, if the format uses quotes.
func (r *Rows) AppendQuote(dst []byte) []byte {
	if r.layout.Format == records.CSV {
		return append(dst, '"')
	}
	return dst
}

// AppendField appends the value of field i.
func (r *Rows) AppendField(dst []byte, i int, v *Value) ([]byte, error) {
	switch r.layout.Format {
	case records.CSV:
		return textfmt.AppendCSV(dst, v.Text, r.sep[0]), nil
	case records.JSONL:
		dst, err := AppendValue(dst, v)
		if err != nil {
			return dst, r.cannotWrite(i, err)
		}
		return dst, nil
	}
	return r.appendUnquoted(dst, i, v.Text)
}

// AppendValue appends a value as JSON.
func AppendValue(dst []byte, v *Value) ([]byte, error) {
	switch {
	case v.Missing:
		return append(dst, "null"...), nil
	case v.JSON:
		return append(dst, v.Text...), nil
	}
	return AppendJSON(dst, v.Text)
}

// checkField returns an error if a field cannot be represented. The format must be TSV or text.
func (r *Rows) checkField(field []byte) error {
	switch {
	case bytes.IndexByte(field, '\n') >= 0 || bytes.IndexByte(field, '\r') >= 0:
		return fmt.Errorf("it contains a line ending, which %s cannot represent", r.layout.Format)
	case r.layout.Format == records.TSV:
		if bytes.IndexByte(field, '\t') >= 0 {
			return errors.New("it contains a tab, which tsv cannot represent")
		}
	case r.layout.Sep != "":
		if bytes.Contains(field, r.sep) {
			return fmt.Errorf("it contains the separator %q", r.sep)
		}
	case len(field) == 0:
		return errors.New("it is empty, which text cannot represent")
	case bytes.ContainsAny(field, " \t\v\f"):
		return errors.New("it contains white space, which separates fields of text")
	}
	return nil
}

func (r *Rows) cannotWrite(i int, err error) error {
	if i < len(r.columns) {
		return fmt.Errorf("field %d (%q) cannot be written as %s: %w (use csv, which can represent any field)", i+1, r.columns[i], r.layout.Format, err)
	}
	return fmt.Errorf("field %d cannot be written as %s: %w (use csv, which can represent any field)", i+1, r.layout.Format, err)
}

var errNotUTF8 = errors.New("it is not UTF-8, which JSON requires")

// AppendJSON appends text as a JSON string.
func AppendJSON(dst, text []byte) ([]byte, error) {
	plain := true
	for _, c := range text {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			plain = false
			break
		}
	}
	if plain {
		dst = append(dst, '"')
		dst = append(dst, text...)
		return append(dst, '"'), nil
	}
	if !utf8.Valid(text) {
		return dst, errNotUTF8
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(string(text)); err != nil {
		return dst, err
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...), nil
}
