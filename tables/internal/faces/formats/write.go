package formats

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/tables/internal/files/parquetfile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// Writer writes batches in a format. Close completes the output, but does not close the underlying writer.
type Writer interface {
	Write(arrow.RecordBatch) error
	Close() error
}

// NewWriter returns a Writer for a format. Arrow is written as a stream if stream is true or if columns have
// dictionaries, and otherwise as a file: the library can write only one dictionary per column to a file.
func NewWriter(f Format, w io.Writer, columns *arrow.Schema, stream bool) (Writer, error) {
	switch f {
	case CSV:
		return NewCSVWriter(w, columns, "")
	case JSONL:
		return newJSONWriter(w, columns)
	case Parquet:
		return parquetfile.NewFast(w, columns)
	case Arrow:
		if stream || slices.ContainsFunc(columns.Fields(), func(f arrow.Field) bool { return schema.ContainsType(f.Type, isDictionary) }) {
			return ipc.NewWriter(w, ipc.WithSchema(columns)), nil
		}
		return ipc.NewFileWriter(keepOpen{w}, ipc.WithSchema(columns))
	case Table:
		return newTableWriter(w, columns)
	}
	return nil, fmt.Errorf("cannot write format %q: the formats are table, %s", f, strings.Join(ReadableNames, ", "))
}

func isDictionary(t arrow.DataType) bool { return t.ID() == arrow.DICTIONARY }

// Skipper does not write the first N bytes.
type Skipper struct {
	io.Writer
	N int
}

// Write implements io.Writer.
func (s *Skipper) Write(p []byte) (int, error) {
	skipped := min(s.N, len(p))
	s.N -= skipped
	n, err := s.Writer.Write(p[skipped:])
	return skipped + n, err
}

// keepOpen hides a writer's Close method, which Arrow's library would call.
type keepOpen struct{ io.Writer }

// tableWriter writes aligned columns. The column widths can differ between batches.
type tableWriter struct {
	*tabwriter.Writer
}

func newTableWriter(out io.Writer, schema *arrow.Schema) (*tableWriter, error) {
	t := &tableWriter{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	names := make([]string, schema.NumFields())
	for k, f := range schema.Fields() {
		names[k] = oneLine(f.Name)
	}
	return t, t.line(names)
}

const maxWidth = 40

// oneLine returns text as a single line of at most maxWidth characters.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '·'
		}
		return r
	}, strings.ToValidUTF8(text, "·"))
	if utf8.RuneCountInString(text) > maxWidth {
		text = string([]rune(text)[:maxWidth-1]) + "…"
	}
	return text
}

func (t *tableWriter) line(cells []string) error {
	_, err := fmt.Fprintln(t.Writer, strings.Join(cells, "\t"))
	return err
}

func (t *tableWriter) Write(b arrow.RecordBatch) error {
	cells, columns := make([]string, b.NumCols()), textColumns(b)
	for i := range int(b.NumRows()) {
		for k, c := range columns {
			cells[k] = "∅"
			row := c.index(i)
			if row < 0 {
				continue
			}
			value, err := c.append(nil, row)
			if err != nil {
				return fmt.Errorf("column %q: %w", b.ColumnName(k), err)
			}
			cells[k] = oneLine(string(value))
		}
		if err := t.line(cells); err != nil {
			return err
		}
	}
	return t.Flush()
}

func (t *tableWriter) Close() error { return t.Flush() }
