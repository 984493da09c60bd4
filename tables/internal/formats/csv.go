package formats

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd"
)

// csvReader reads records, and bounds how long one may be.
type csvReader struct {
	*csv.Reader
	in    *Input
	left  *recordLimit
	names []string
	line  int // where the last record began
}

// recordLimit is a reader that ends with an error when a record goes on and on,
// as behind a quote that is never closed.
type recordLimit struct {
	io.Reader
	left int
}

func (l *recordLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("%w: the record has more than %d MiB", partd.ErrTooLarge, maxRecord>>20)
	}
	n, err := l.Reader.Read(p)
	l.left -= n
	return n, err
}

func (in *Input) newCSV(r io.Reader) (records, error) {
	limit := &recordLimit{r, maxRecord}
	c := &csvReader{Reader: csv.NewReader(limit), in: in, left: limit}
	c.ReuseRecord = true
	header, err := c.next()
	if err == io.EOF {
		return nil, fmt.Errorf("%s: it is empty: the first line must name the columns", in.Name)
	}
	if err != nil {
		return nil, err
	}
	if len(header) > maxColumns {
		return nil, fmt.Errorf("%s, line 1: %w: %d columns, the limit is %d", in.Name, partd.ErrTooLarge, len(header), maxColumns)
	}
	seen := map[string]bool{}
	for i, name := range header {
		if i == 0 {
			name = strings.TrimPrefix(name, "\ufeff")
		}
		if name == "" || seen[name] {
			return nil, fmt.Errorf("%s, line 1: column %d has the name %q, which is empty or another's", in.Name, i+1, name)
		}
		seen[name] = true
		c.names = append(c.names, strings.Clone(name))
	}
	return c, nil
}

// next returns the next record, and io.EOF behind the last one.
func (c *csvReader) next() ([]string, error) {
	c.left.left = maxRecord
	record, err := c.Read()
	var parse *csv.ParseError
	switch {
	case err == nil:
		c.line, _ = c.FieldPos(0)
		return record, nil
	case err == io.EOF:
		return nil, err
	case errors.As(err, &parse) && errors.Is(err, csv.ErrFieldCount):
		return nil, fmt.Errorf("%s, line %d: %d fields, and the first line has %d", c.in.Name, parse.Line, len(record), c.FieldsPerRecord)
	case errors.As(err, &parse):
		return nil, fmt.Errorf("%s, line %d: %w", c.in.Name, parse.Line, parse.Err)
	}
	return nil, fmt.Errorf("%s, behind line %d: %w", c.in.Name, c.line, err)
}

func (c *csvReader) schema(ctx context.Context) (*arrow.Schema, error) {
	columns := make([]*column, len(c.names))
	for i, name := range c.names {
		columns[i] = newColumn(name)
	}
	for rows := 0; ; rows++ {
		record, err := c.next()
		if err == io.EOF {
			return schemaOf(columns, c.in.Known)
		}
		if err != nil {
			return nil, err
		}
		if rows%batchRows == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		for i, text := range record {
			if text != "" && columns[i].kinds != kindText {
				k, nanos := kindsOfText(text)
				columns[i].see(k)
				columns[i].nanos = columns[i].nanos || nanos
			}
		}
	}
}

func (c *csvReader) add(b *array.RecordBuilder) (size int, err error) {
	record, err := c.next()
	if err != nil {
		return 0, err
	}
	for i, text := range record {
		size += len(text)
		if err := appendText(b.Field(i), text); err != nil {
			line, _ := c.FieldPos(i)
			return 0, fmt.Errorf("%s, line %d: column %q: %.60q is no %s", c.in.Name, line, c.names[i], text, b.Schema().Field(i).Type)
		}
	}
	return size, nil
}

// appendText adds a text to a column of any type. An empty one is a null.
func appendText(b array.Builder, text string) error {
	if text == "" {
		b.AppendNull()
		return nil
	}
	if b, ok := b.(array.StringLikeBuilder); ok { // which would take "(null)" for a null
		b.Append(text)
		return nil
	}
	return b.AppendValueFromString(text)
}
