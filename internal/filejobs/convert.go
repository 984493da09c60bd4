package filejobs

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/records"
)

// converter writes records of the input as the output has them: with their bytes
// as they are, where the format is the same.
type converter struct {
	rows  *output.Rows // nil: as they are
	split *records.Splitter
	json  bool // the input is JSON lines: a field may be missing
	row   []output.Value
	out   []byte
	bytes int64 // of the records written, as they are in the input
}

// newConverter returns a converter of the records of a job, after they were read
// and after writing the header. The columns of JSON lines are the members of the
// first record.
func newConverter(j *job, w io.Writer) (*converter, error) {
	if j.To == j.From {
		_, err := w.Write(j.Inputs.header)
		return &converter{}, err
	}
	columns := j.Inputs.Columns
	c := &converter{json: j.From.Format == records.JSONL}
	if c.json {
		columns = records.Members(j.Tally.First)
		fields := make([]records.Field, len(columns))
		for i, name := range columns {
			fields[i] = records.Field{Name: name, Optional: true}
		}
		c.split = records.NewMemberSplitter(fields)
	} else {
		c.split = records.NewFieldSplitter(j.From, columns)
	}
	var err error
	if columns == nil && j.To.Format == records.JSONL && j.Tally.Records == 0 {
		columns = []string{} // nothing will be written
	}
	if c.rows, err = output.NewRows(j.To, columns); err != nil {
		return nil, optionErrorf("--to-format %s: %w", j.To.Format, err)
	}
	if c.out, err = c.rows.AppendHeader(nil); err != nil {
		return nil, err
	}
	_, err = w.Write(c.out)
	return c, err
}

// write writes whole records.
func (c *converter) write(w io.Writer, data []byte) error {
	if c.rows == nil {
		c.bytes += int64(len(data))
		_, err := w.Write(data)
		return err
	}
	c.out = c.out[:0]
	c.split.Feed(data, true)
	for {
		switch kind := c.split.Next(); kind {
		case records.More:
			_, err := w.Write(c.out)
			return err
		case records.Data:
			c.row = c.row[:0]
			for _, v := range c.split.Values {
				c.row = append(c.row, output.Value{Text: v, Missing: c.json && v == nil})
			}
			var err error
			c.bytes += int64(len(c.split.Record))
			if c.out, err = c.rows.Append(c.out, c.row); err != nil {
				return fmt.Errorf("the record %s: %w", quoteShort(trimNewline(c.split.Record)), err)
			}
		case records.Bad, records.Broken:
			return fmt.Errorf("the record %s: %w", quoteShort(trimNewline(c.split.Record)), c.split.Err)
		default:
			return errors.New("an empty line among the records")
		}
	}
}

func trimNewline(record []byte) []byte { return bytes.TrimSuffix(record, []byte{'\n'}) }
