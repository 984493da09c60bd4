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
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
)

// csvReader reads records, and bounds how long one may be.
type csvReader struct {
	*csv.Reader
	in   *Input
	left *recordLimit
	line int // where the last record began
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

func (in *Input) newCSV(r io.Reader) (*csvReader, []string, error) {
	limit := &recordLimit{r, maxRecord}
	c := &csvReader{csv.NewReader(limit), in, limit, 0}
	c.ReuseRecord = true
	header, err := c.next()
	if err == io.EOF {
		return nil, nil, fmt.Errorf("%s: it is empty: the first line must name the columns", in.Name)
	}
	if err != nil {
		return nil, nil, err
	}
	if len(header) > maxColumns {
		return nil, nil, fmt.Errorf("%s, line 1: %w: %d columns, the limit is %d", in.Name, partd.ErrTooLarge, len(header), maxColumns)
	}
	names := make([]string, len(header))
	seen := map[string]bool{}
	for i, name := range header {
		if i == 0 {
			name = strings.TrimPrefix(name, "\ufeff")
		}
		if name == "" || seen[name] {
			return nil, nil, fmt.Errorf("%s, line 1: column %d has the name %q, which is empty or another's", in.Name, i+1, name)
		}
		names[i], seen[name] = strings.Clone(name), true
	}
	return c, names, nil
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

func (in *Input) readCSV(ctx context.Context) (array.RecordReader, error) {
	first, all, cut, err := in.twice()
	if err != nil {
		return nil, err
	}
	schema, err := in.csvSchema(ctx, first, cut)
	if err != nil {
		return nil, err
	}
	c, _, err := in.newCSV(all)
	if err != nil {
		return nil, err
	}
	return in.batches(ctx, schema, func(yield func(arrow.RecordBatch) bool) error {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		defer b.Release()
		return in.build(b, yield, func() (int, error) {
			record, err := c.next()
			if err != nil {
				return 0, err
			}
			size := 0
			for i, text := range record {
				size += len(text)
				if err := appendText(b.Field(i), text); err != nil {
					line, _ := c.FieldPos(i)
					return 0, fmt.Errorf("%s, line %d: column %q: %.60q is no %s%s", in.Name, line, schema.Field(i).Name, text, schema.Field(i).Type, cutAdvice(cut))
				}
			}
			return size, nil
		})
	}), nil
}

// cutAdvice says why a type was wrong that was looked for in a part of the input.
func cutAdvice(cut bool) string {
	if cut {
		return fmt.Sprintf(" (which the first %d MiB are): write it to a file first, which is looked at as a whole", sample>>20)
	}
	return ""
}

// build makes batches of rows. Row adds one to the builder, and returns the bytes
// of its text, or io.EOF.
func (in *Input) build(b *array.RecordBuilder, yield func(arrow.RecordBatch) bool, row func() (int, error)) error {
	for ended := false; !ended; {
		rows := 0
		for size := 0; rows < batchRows && size < batchBytes; rows++ {
			n, err := row()
			if err == io.EOF {
				ended = true
				break
			} else if err != nil {
				return err
			}
			size += n
		}
		if rows == 0 {
			return nil
		}
		batch := b.NewRecordBatch()
		more := yield(batch)
		batch.Release()
		if !more {
			return nil
		}
	}
	return nil
}

func (in *Input) csvSchema(ctx context.Context, r io.Reader, cut bool) (*arrow.Schema, error) {
	c, names, err := in.newCSV(r)
	if err != nil {
		return nil, err
	}
	columns := make([]*column, len(names))
	for i, name := range names {
		columns[i] = newColumn(name)
	}
	for rows := 0; ; rows++ {
		record, err := c.next()
		if err == io.EOF || err != nil && cut { // the last record is not whole
			return schemaOf(columns, in.Known)
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
