package formats

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/files/parquetfile"
)

// Writer writes batches in a format. Close completes the output, but does not close the underlying writer.
type Writer = parquetfile.RowWriter

func isDictionary(t arrow.DataType) bool { return t.ID() == arrow.DICTIONARY }

// Skipper discards the first N bytes and writes the others.
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

func newTableWriter(out io.Writer, schema *arrow.Schema, _ WriteOptions) (Writer, error) {
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
	cells, columns := make([]string, b.NumCols()), textAppenders(b)
	for i := range int(b.NumRows()) {
		for k, appendText := range columns {
			value, isNull, err := appendText(nil, i)
			if err != nil {
				return fmt.Errorf("column %q: %w", b.ColumnName(k), err)
			}
			cells[k] = oneLine(string(value))
			if isNull {
				cells[k] = "∅"
			}
		}
		if err := t.line(cells); err != nil {
			return err
		}
	}
	return t.Flush()
}

func (t *tableWriter) Close() error { return t.Flush() }
