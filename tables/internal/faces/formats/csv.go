package formats

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/jobs/records"
)

// csvRows iterates over the CSV records of a chunk.
type csvRows struct {
	in          *Input
	split       *records.Splitter
	names       []string
	linesBefore int64 // number of lines before the chunk
	isBlank     bool  // the current record is an empty line
	numberText  []byte
}

func (t *text) csvRows(c chunk) *csvRows {
	rows := &csvRows{in: t.in, split: records.NewFieldSplitter(t.layout, t.names), names: t.names, linesBefore: c.linesBefore}
	rows.split.Feed(c.data, true)
	return rows
}

func (t *text) readHeader(ctx context.Context) error {
	split := records.NewFieldSplitter(t.layout, nil)
	split.Begin()
	var first chunk
	err := io.EOF // also the result of next for a chunk that contains only empty lines
	for err == io.EOF {
		first, err = t.nextChunk(ctx)
		if err == io.EOF {
			return fmt.Errorf("%s: %w", t.in.Name, records.ErrNoHeader)
		} else if err != nil {
			return err
		}
		close(first.used)
		split.Feed(first.data, true)
		err = (&csvRows{in: t.in, split: split}).next()
	}
	if err != nil {
		return err
	}
	t.names = split.Columns
	if len(t.names) > maxColumns {
		return fmt.Errorf("%s, line 1: %w: %d columns: the limit is %d", t.in.Name, partd.ErrTooLarge, len(t.names), maxColumns)
	}
	seen := map[string]bool{}
	for i, name := range t.names {
		if name == "" || seen[name] {
			return fmt.Errorf("%s, line 1: column %d has the name %q, which is empty or already used", t.in.Name, i+1, name)
		}
		if !utf8.ValidString(name) {
			return fmt.Errorf("%s, line 1: name of column %d: %w", t.in.Name, i+1, records.InvalidText(t.in.decodedFrom))
		}
		seen[name] = true
	}
	t.linesBefore = split.Line - 1 + int64(bytes.Count(split.Record, []byte("\n")))
	t.block = first.data[split.Pos() : len(first.data)+len(t.block)]
	return nil
}

// line returns the number of the line in which the current record starts.
func (c *csvRows) line() int64 { return c.linesBefore + c.split.Line }

// next advances to the next record, or returns io.EOF. In a file with a single column, an empty line is a record.
func (c *csvRows) next() error {
	for {
		c.isBlank = false
		kind := c.split.Next()
		switch {
		case kind == records.Header:
			return nil
		case kind == records.Data:
			if !utf8.Valid(c.split.Record) {
				for i, text := range c.split.Values {
					if !utf8.Valid(text) {
						return c.fieldError(i, records.InvalidText(c.in.decodedFrom))
					}
				}
			}
			return nil
		case kind == records.Blank:
			c.isBlank = len(c.names) == 1
			if c.isBlank {
				return nil
			}
		case kind == records.More:
			return io.EOF
		default:
			return fmt.Errorf("%s, line %d: %w", c.in.Name, c.line(), c.split.Err)
		}
	}
}

// fieldError adds the file name, the line and the column to an error about field i of the current record.
func (c *csvRows) fieldError(i int, err error) error {
	line := c.line()
	for _, previous := range c.split.Values[:i] {
		line += int64(bytes.Count(previous, []byte("\n")))
	}
	return fmt.Errorf("%s, line %d: column %q: %w", c.in.Name, line, c.names[i], err)
}

func (c *csvRows) values() [][]byte {
	if c.isBlank {
		return [][]byte{nil}
	}
	return c.split.Values
}

// isQuoted reports whether field i of the current record was quoted.
func (c *csvRows) isQuoted(i int) bool {
	return !c.isBlank && c.split.Quoted[i] && bytes.IndexByte(c.split.Record, '"') >= 0
}

// isNull reports whether field i contains one of the texts for null, such as NA, and is not quoted.
func (c *csvRows) isNull(i int, text []byte) bool { return c.in.Values.IsNull(text) && !c.isQuoted(i) }

// number returns a field's text. In a number, it replaces the decimal mark by a point and removes thousands separators.
// The result is valid until the next call.
func (c *csvRows) number(text []byte) []byte {
	if !c.in.Values.ReadsNumbers() {
		return text
	}
	c.numberText = c.in.Values.AppendNumber(c.numberText[:0], text)
	return c.numberText
}

// inferColumns restricts the columns to types that can represent the values in the remaining records.
func (c *csvRows) inferColumns(root *column) error {
	for {
		if err := c.next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		for i, text := range c.values() {
			if col := root.fields[i]; len(text) > 0 && col.kinds != kindText && !c.isNull(i, text) {
				k, nanos := kindsOfText(c.number(text))
				col.restrict(k, c.line())
				col.hasNanos = col.hasNanos || nanos
			}
		}
	}
}

func (c *csvRows) add(columns *fields) (size int, err error) {
	if err := c.next(); err != nil {
		if err == io.EOF && c.in.Mended != nil {
			c.in.Mended.Add(c.split.Mended)
		}
		return 0, err
	}
	for i, text := range c.values() {
		size += len(text)
		if c.isNull(i, text) {
			text = nil
		}
		quoted := len(text) == 0 && c.isQuoted(i)
		if columns.adders[i].bareKind == jsonNumber {
			text = c.number(text)
		}
		if err := columns.adders[i].add(text, quoted); err != nil {
			return 0, c.fieldError(i, err)
		}
	}
	return size, nil
}
