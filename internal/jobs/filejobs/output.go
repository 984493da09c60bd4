package filejobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/jobs/zfile"
)

// sink is a job's output. It is the standard output, or a file that is written atomically and
// compressed according to its extension.
type sink struct {
	*output.Writer
	file       *output.File // nil for the standard output
	compressor io.WriteCloser
	closed     bool
}

// ToStdout reports whether the output is the standard output.
func (o *Options) ToStdout() bool { return o.Output == "" || o.Output == Stdin }

func openSink(ctx context.Context, o *Options) (*sink, error) {
	if o.ToStdout() {
		return &sink{Writer: output.NewWriter(ctx, o.Out)}, nil
	}
	if err := zfile.CheckName(o.Output); err != nil {
		return nil, &OptionError{err}
	}
	f, err := output.Create(ctx, o.Output, o.Force)
	if errors.Is(err, output.ErrExists) {
		return nil, fmt.Errorf("%w: add --force to replace it", err)
	}
	if err != nil {
		return nil, err
	}
	packer, err := zfile.NewWriter(zfile.FormatOf(o.Output), f, o.Threads)
	if err != nil {
		return nil, errors.Join(err, f.Abort())
	}
	return &sink{Writer: output.NewWriter(ctx, packer), file: f, compressor: packer}, nil
}

// commit completes the output. The file appears under its name only now.
func (s *sink) commit() error {
	if err := s.end(); err != nil || s.file == nil {
		return err
	}
	return s.file.Commit()
}

func (s *sink) end() error {
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.Close()
	if err == nil && s.compressor != nil {
		err = s.compressor.Close()
	}
	return err
}

// abort discards the output, unless it was committed.
func (s *sink) abort() error {
	// Ignore the error: the output is discarded or was committed.
	_ = s.end()
	if s.file == nil {
		return nil
	}
	return s.file.Abort()
}

// converter writes input records in the output's layout. If the layouts are equal, it writes
// the records unchanged.
type converter struct {
	rows     *output.Rows // nil if records are written unchanged
	splitter *records.Splitter
	isJSON   bool // the input consists of JSON lines, so fields can be missing
	row      []output.Value
	out      []byte
	bytes    int64 // size of the written records before conversion
}

// newConverter writes the header and returns a converter for a job's records. It must be called
// after the input was read: the columns of JSON lines are the members of the first record.
func newConverter(j *Job, w io.Writer) (*converter, error) {
	if j.selection.Replaces() { // j.Read has already converted the records
		_, err := w.Write(j.selection.Header)
		return &converter{}, err
	}
	if j.To == j.From {
		_, err := w.Write(j.Inputs.header)
		return &converter{}, err
	}
	columns := j.Inputs.Columns
	c := &converter{isJSON: j.From.Format == records.JSONL}
	if c.isJSON {
		columns = records.Members(j.Tally.FirstRecord)
	}
	c.splitter = allFields(j.From, columns)
	var err error
	if columns == nil && j.To.Format == records.JSONL && j.Tally.Records == 0 {
		columns = []string{} // no record will be written, so no names are needed
	}
	c.rows, err = output.NewRows(j.To, columns)
	if err != nil {
		return nil, OptionErrorf("--to-format %s: %w", j.To.Format, err)
	}
	c.out, err = c.rows.AppendHeader(nil)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(c.out)
	return c, err
}

// allFields returns a splitter that yields all fields of a record, then parts. A JSON record may lack some.
func allFields(layout records.Layout, columns []string, parts ...records.Field) *records.Splitter {
	if layout.Format != records.JSONL {
		return records.NewFieldSplitter(layout, columns, parts...)
	}
	var members []records.Field
	for _, name := range columns {
		members = append(members, records.Field{Name: name, Optional: true})
	}
	return records.NewMemberSplitter(append(members, parts...))
}

func (c *converter) write(w io.Writer, data []byte) error {
	if c.rows == nil {
		c.bytes += int64(len(data))
		_, err := w.Write(data)
		return err
	}
	c.out = c.out[:0]
	c.splitter.Feed(data, true)
	for {
		kind := c.splitter.Next()
		switch kind {
		case records.More:
			_, err := w.Write(c.out)
			return err
		case records.Data:
			c.row = c.row[:0]
			for _, v := range c.splitter.Values {
				c.row = append(c.row, output.Value{Text: v, Missing: c.isJSON && v == nil})
			}
			var err error
			c.bytes += int64(len(c.splitter.Record))
			c.out, err = c.rows.Append(c.out, c.row)
			if err != nil {
				return fmt.Errorf("the record %s: %w", QuoteShort(trimNewline(c.splitter.Record)), err)
			}
		case records.Bad, records.Broken:
			return fmt.Errorf("the record %s: %w", QuoteShort(trimNewline(c.splitter.Record)), c.splitter.Err)
		default:
			return errors.New("unexpected empty line among the records")
		}
	}
}

func trimNewline(record []byte) []byte { return bytes.TrimSuffix(record, []byte{'\n'}) }
