package formats

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/records"
)

// csvReader reads records, and bounds how long one may be.
type csvReader struct {
	r     io.Reader
	in    *Input
	split *records.Splitter
	names []string
	above int64 // lines before the splitter's first one
	blank bool  // the record is an empty line

	buffer []byte
	block  []byte // what the splitter was given of it
	eof    bool
}

func (in *Input) newCSV(r io.Reader) (rows, error) {
	layout := records.Layout{Format: records.CSV, Sep: in.Sep}
	if err := layout.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", in.Name, err)
	}
	header := records.NewFieldSplitter(layout, nil)
	c := &csvReader{r: r, in: in, split: header}
	header.Begin()
	err := c.next()
	if err == io.EOF {
		return nil, fmt.Errorf("%s: it is empty: the first line must name the columns", in.Name)
	}
	if err != nil {
		return nil, err
	}
	c.names = header.Columns
	if len(c.names) > maxColumns {
		return nil, fmt.Errorf("%s, line 1: %w: %d columns, the limit is %d", in.Name, partd.ErrTooLarge, len(c.names), maxColumns)
	}
	seen := map[string]bool{}
	for i, name := range c.names {
		if name == "" || seen[name] {
			return nil, fmt.Errorf("%s, line 1: column %d has the name %q, which is empty or another's", in.Name, i+1, name)
		}
		if !utf8.ValidString(name) {
			return nil, fmt.Errorf("%s, line 1: the name of column %d: %w", in.Name, i+1, errNotUTF8)
		}
		seen[name] = true
	}
	c.above = header.Line - 1 + int64(bytes.Count(header.Record, []byte("\n")))
	c.split = records.NewFieldSplitter(layout, c.names)
	c.block = c.block[header.Pos():]
	c.split.Feed(c.block, c.eof)
	return c, nil
}

// fill gives the splitter more, behind what it has not consumed.
func (c *csvReader) fill() error {
	rest, first := c.block[c.split.Pos():], c.block == nil
	if len(rest) > maxRecord {
		return fmt.Errorf("%s, line %d: %w: the record has more than %d MiB", c.in.Name, c.line(), partd.ErrTooLarge, maxRecord>>20)
	}
	if 2*len(rest) >= len(c.buffer) {
		c.buffer = make([]byte, min(max(1<<20, 4*len(rest)), maxRecord+1))
	}
	copy(c.buffer, rest)
	n, err := io.ReadFull(c.r, c.buffer[len(rest):])
	c.block = c.buffer[:len(rest)+n]
	if c.eof = err == io.EOF || err == io.ErrUnexpectedEOF; c.eof && n+len(rest) > 0 && c.block[n+len(rest)-1] != '\n' {
		c.block = append(c.block, '\n')
	}
	if err != nil && !c.eof {
		return fmt.Errorf("%s, behind line %d: %w", c.in.Name, c.line(), err)
	}
	if first {
		c.block = bytes.TrimPrefix(c.block, []byte("\ufeff"))
	}
	c.split.Feed(c.block, c.eof)
	return nil
}

// line is where the record begins.
func (c *csvReader) line() int64 { return c.above + c.split.Line }

// next goes to the next record, and returns io.EOF behind the last one. An empty line
// is a record where there is one column.
func (c *csvReader) next() error {
	for {
		c.blank = false
		switch kind := c.split.Next(); {
		case kind == records.Header:
			return nil
		case kind == records.Data:
			if !utf8.Valid(c.split.Record) {
				for i, text := range c.split.Values {
					if !utf8.Valid(text) {
						return c.failed(i, errNotUTF8)
					}
				}
			}
			return nil
		case kind == records.Blank:
			if c.blank = len(c.names) == 1; c.blank {
				return nil
			}
		case kind == records.More && c.eof:
			return io.EOF
		case kind == records.More:
			if err := c.fill(); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s, line %d: %w", c.in.Name, c.line(), c.split.Err)
		}
	}
}

// failed is an error in a field, at its line.
func (c *csvReader) failed(i int, err error) error {
	line := c.line()
	for _, before := range c.split.Values[:i] {
		line += int64(bytes.Count(before, []byte("\n")))
	}
	return fmt.Errorf("%s, line %d: column %q: %w", c.in.Name, line, c.names[i], err)
}

// values are those of the record.
func (c *csvReader) values() [][]byte {
	if c.blank {
		return [][]byte{nil}
	}
	return c.split.Values
}

func (c *csvReader) schema(ctx context.Context) (*arrow.Schema, error) {
	columns := make([]*column, len(c.names))
	for i, name := range c.names {
		columns[i] = newColumn(name)
	}
	for rows := 0; ; rows++ {
		err := c.next()
		if err == io.EOF {
			return schemaOf(columns, c.in.Known)
		}
		if err != nil {
			return nil, err
		}
		if rows%batchRows == 0 && ctx.Err() != nil {
			return nil, canceled.Err(ctx)
		}
		for i, text := range c.values() {
			if len(text) > 0 && columns[i].kinds != kindText {
				k, nanos := kindsOfText(text)
				columns[i].see(k)
				columns[i].nanos = columns[i].nanos || nanos
			}
		}
	}
}

func (c *csvReader) add(to *fields) (size int, err error) {
	if err := c.next(); err != nil {
		return 0, err
	}
	for i, text := range c.values() {
		size += len(text)
		quoted := len(text) == 0 && !c.blank && c.split.Quoted[i] && bytes.IndexByte(c.split.Record, '"') >= 0
		if err := to.parts[i].add(text, quoted); err != nil {
			return 0, c.failed(i, err)
		}
	}
	return size, nil
}
