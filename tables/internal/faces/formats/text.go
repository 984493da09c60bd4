package formats

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// textWriter writes rows as lines of text.
type textWriter struct {
	w           *bufio.Writer
	line        []byte
	newAppender func(b arrow.RecordBatch) rowAppender
}

// rowAppender appends row i of a batch to line.
type rowAppender func(line []byte, i int) ([]byte, error)

func (t *textWriter) Write(b arrow.RecordBatch) (err error) {
	appendRow := t.newAppender(b)
	for i := range int(b.NumRows()) {
		t.line, err = appendRow(t.line[:0], i)
		if err != nil {
			return err
		}
		// Write's error can be ignored, because Flush returns the first error.
		_, _ = t.w.Write(append(t.line, '\n'))
	}
	return t.w.Flush()
}

func (t *textWriter) Close() error { return t.w.Flush() }

// newCSVWriter returns a writer of CSV. It writes nulls as o.Null, which must not need quotes. It quotes empty strings
// and values that are equal to o.Null.
func newCSVWriter(w io.Writer, schema *arrow.Schema, o WriteOptions) (Writer, error) {
	t := &textWriter{w: bufio.NewWriterSize(w, 1<<16)}
	for i, f := range schema.Fields() {
		if i > 0 {
			t.line = append(t.line, ',')
		}
		t.line = textfmt.AppendCSV(t.line, []byte(f.Name), ',', "")
	}
	var value []byte
	t.newAppender = func(b arrow.RecordBatch) rowAppender {
		columns := textAppenders(b)
		return func(line []byte, i int) (_ []byte, err error) {
			for k, appendText := range columns {
				if k > 0 {
					line = append(line, ',')
				}
				var isNull bool
				value, isNull, err = appendText(value[:0], i)
				switch {
				case err != nil:
					return nil, fmt.Errorf("column %q: %w", b.ColumnName(k), err)
				case isNull:
					line = append(line, o.Null...)
				default:
					line = textfmt.AppendCSV(line, value, ',', "", o.Null)
				}
			}
			return line, nil
		}
	}
	_, err := t.w.Write(append(t.line, '\n'))
	return t, err
}

// newJSONWriter returns a writer of JSON lines: one object for each row, with its members in column order.
func newJSONWriter(w io.Writer, schema *arrow.Schema, _ WriteOptions) (Writer, error) {
	names := make([][]byte, schema.NumFields())
	for k, f := range schema.Fields() {
		name, err := appendString([]byte(","), f.Name)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", f.Name, err)
		}
		names[k] = append(name, ':')
	}
	if len(names) > 0 {
		names[0][0] = '{'
	}
	return &textWriter{w: bufio.NewWriterSize(w, 1<<16), newAppender: func(b arrow.RecordBatch) rowAppender {
		columns := make([]rowAppender, b.NumCols())
		for k, c := range b.Columns() {
			columns[k] = jsonAppender(c)
		}
		return func(line []byte, i int) (_ []byte, err error) {
			for k, appendJSON := range columns {
				line, err = appendJSON(append(line, names[k]...), i)
				if err != nil {
					return nil, fmt.Errorf("column %q: %w", b.ColumnName(k), err)
				}
			}
			return append(line, '}'), nil
		}
	}}, nil
}

func textAppenders(b arrow.RecordBatch) []func(out []byte, row int) (_ []byte, isNull bool, err error) {
	columns := make([]func(out []byte, row int) (_ []byte, isNull bool, err error), b.NumCols())
	for k, c := range b.Columns() {
		columns[k] = TextAppender(c)
	}
	return columns
}

// TextAppender returns a function that appends a value's text as CSV represents it: nested values are JSON. Different
// values in a column have different texts. isNull means that the value is null, so nothing was appended.
func TextAppender(a arrow.Array) func(out []byte, row int) (_ []byte, isNull bool, err error) {
	values, index := arrowtype.Values(a)
	appendValue := textAppender(values)
	if arrowtype.Of(values.DataType()).IsNested() {
		appendValue = jsonAppender(values)
	}
	return func(out []byte, row int) (_ []byte, isNull bool, err error) {
		row = index(row)
		if row < 0 {
			return out, true, nil
		}
		out, err = appendValue(out, row)
		return out, false, err
	}
}

// textAppender returns a function that appends a value that is neither nested nor null, in the form that adder parses.
// The values have no encodings (see [arrowtype.Values]).
func textAppender(a arrow.Array) rowAppender {
	appendValue := valueAppender(a)
	return func(out []byte, i int) ([]byte, error) { return appendValue(out, i), nil }
}

func valueAppender(a arrow.Array) func(out []byte, i int) []byte {
	t, dataType := arrowtype.Of(a.DataType()), a.DataType()
	switch t.Kind {
	case arrowtype.Text:
		texts := a.(array.StringLike)
		return func(out []byte, i int) []byte { return append(out, texts.Value(i)...) }
	case arrowtype.Integer:
		value := t.Ints(a)
		if t.IsUnsigned() {
			return func(out []byte, i int) []byte { return strconv.AppendUint(out, uint64(value(i)), 10) }
		}
		return func(out []byte, i int) []byte { return strconv.AppendInt(out, value(i), 10) }
	case arrowtype.Float:
		value, bits := t.Floats(a), floatBits(dataType)
		return func(out []byte, i int) []byte { return strconv.AppendFloat(out, value(i), 'g', -1, bits) }
	case arrowtype.Decimal:
		if t.Decimals != nil {
			value := t.Decimals(a)
			return func(out []byte, i int) []byte { return appendDecimal(out, value(i).BigInt(), dataType) }
		}
	case arrowtype.Date:
		value := t.Ints(a)
		if dataType.ID() == arrow.DATE32 {
			return func(out []byte, i int) []byte {
				return arrow.Date32(value(i)).ToTime().AppendFormat(out, time.DateOnly)
			}
		}
		return func(out []byte, i int) []byte {
			instant := time.UnixMilli(value(i)).UTC()
			if value(i)%(secondsPerDay*1000) != 0 {
				return appendTime(out, instant, false)
			}
			return instant.AppendFormat(out, time.DateOnly)
		}
	case arrowtype.Time:
		value, unit := t.Ints(a), dataType.(arrow.TemporalWithUnit).TimeUnit()
		return func(out []byte, i int) []byte { return appendClock(out, value(i), unit) }
	case arrowtype.Timestamp:
		t, value := dataType.(*arrow.TimestampType), t.Ints(a)
		zone, err := t.GetZone()
		return func(out []byte, i int) []byte {
			instant := arrow.Timestamp(value(i)).ToTime(t.Unit)
			if err == nil {
				instant = instant.In(zone)
			}
			return appendTime(out, instant, t.TimeZone != "")
		}
	}
	return func(out []byte, i int) []byte { return append(out, a.ValueStr(i)...) }
}

// floatBits returns the bit size for strconv.AppendFloat. A float16 is written like a float32.
func floatBits(t arrow.DataType) int { return max(32, t.(arrow.FixedWidthDataType).BitWidth()) }

// jsonAppender returns a function that appends a value as JSON.
func jsonAppender(a arrow.Array) rowAppender {
	values, index := arrowtype.Values(a)
	appendValue := jsonValueAppender(values)
	return func(out []byte, i int) ([]byte, error) {
		i = index(i)
		if i < 0 {
			return append(out, "null"...), nil
		}
		return appendValue(out, i)
	}
}

// jsonValueAppender is like jsonAppender, for values that are not null and have no encodings (see [arrowtype.Values]).
func jsonValueAppender(a arrow.Array) rowAppender {
	switch t := arrowtype.Of(a.DataType()); t.Kind {
	case arrowtype.Struct:
		return objectAppender(a.(*array.Struct), nil)
	case arrowtype.List, arrowtype.Map:
		return arrayAppender(a.(array.ListLike), t.Kind == arrowtype.Map)
	case arrowtype.Text:
		texts := a.(array.StringLike)
		return func(out []byte, i int) ([]byte, error) { return appendString(out, texts.Value(i)) }
	case arrowtype.Float:
		value, bits := t.Floats(a), floatBits(a.DataType())
		return func(out []byte, i int) ([]byte, error) { return appendFloat(out, value(i), bits), nil }
	case arrowtype.Bool, arrowtype.Integer:
		return textAppender(a)
	}
	appendValue := valueAppender(a)
	return func(out []byte, i int) ([]byte, error) { return append(appendValue(append(out, '"'), i), '"'), nil }
}

func arrayAppender(a array.ListLike, isMap bool) rowAppender {
	var appendValue rowAppender
	if isMap {
		appendValue = objectAppender(a.ListValues().(*array.Struct), entryNames)
	} else {
		appendValue = jsonAppender(a.ListValues())
	}
	return func(out []byte, i int) (_ []byte, err error) {
		out = append(out, '[')
		start, end := a.ValueOffsets(i)
		for k := start; k < end; k++ {
			if k > start {
				out = append(out, ',')
			}
			out, err = appendValue(out, int(k))
			if err != nil {
				return nil, err
			}
		}
		return append(out, ']'), nil
	}
}

// entryNames are the names that arrayAppender gives to a map's keys and values, whatever the map's type calls them.
var entryNames = []string{"key", "value"}

// objectAppender returns a function that appends a struct as a JSON object. names, if not nil, are the field names.
func objectAppender(a *array.Struct, names []string) rowAppender {
	fields := a.DataType().(*arrow.StructType).Fields()
	appenders := make([]rowAppender, len(fields))
	for k := range fields {
		appenders[k] = jsonAppender(a.Field(k))
	}
	return func(out []byte, i int) (_ []byte, err error) {
		out = append(out, '{')
		for k, f := range fields {
			if k > 0 {
				out = append(out, ',')
			}
			name := f.Name
			if names != nil {
				name = names[k]
			}
			out, err = appendString(out, name)
			if err != nil {
				return nil, err
			}
			out, err = appenders[k](append(out, ':'), i)
			if err != nil {
				return nil, err
			}
		}
		return append(out, '}'), nil
	}
}

// appendFloat appends a float as JSON. It quotes NaN and infinities. It writes large floats with an exponent, because
// readers would otherwise take them for integers that a float cannot represent exactly.
func appendFloat(out []byte, f float64, bits int) []byte {
	a := math.Abs(f)
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return append(strconv.AppendFloat(append(out, '"'), f, 'g', -1, bits), '"')
	case a < 1<<24 && a >= 1e-6 || bits == 64 && a < 1e15 && a >= 1e-6:
		return strconv.AppendFloat(out, f, 'f', -1, bits)
	}
	return strconv.AppendFloat(out, f, 'g', -1, bits)
}

func appendString(out []byte, s string) ([]byte, error) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			if !utf8.ValidString(s) {
				return nil, fmt.Errorf("%.60q: %w", s, errNotUTF8)
			}
			quoted, err := json.Marshal(s)
			return append(out, quoted...), err
		}
	}
	return append(append(append(out, '"'), s...), '"'), nil
}
