package formats

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// textWriter writes rows as lines of text.
type textWriter struct {
	w    *bufio.Writer
	line []byte
	row  func(line []byte, b arrow.RecordBatch, i int) ([]byte, error)
}

func (t *textWriter) Write(b arrow.RecordBatch) (err error) {
	for i := range int(b.NumRows()) {
		t.line, err = t.row(t.line[:0], b, i)
		if err != nil {
			return err
		}
		// Write's error can be ignored, because Flush returns the first error.
		_, _ = t.w.Write(append(t.line, '\n'))
	}
	return t.w.Flush()
}

func (t *textWriter) Close() error { return t.w.Flush() }

// NewCSVWriter returns a writer of CSV. It writes nulls as the text null, which must not need quotes, and values with
// this text in quotes, as it does with empty strings.
func NewCSVWriter(w io.Writer, schema *arrow.Schema, null string) (Writer, error) {
	t := &textWriter{w: bufio.NewWriterSize(w, 1<<16)}
	for i, f := range schema.Fields() {
		t.line = appendField(t.line, i, []byte(f.Name), "")
	}
	var value []byte
	t.row = func(line []byte, b arrow.RecordBatch, i int) (_ []byte, err error) {
		for k, column := range b.Columns() {
			column, i := unpack(column, i)
			if isNull(column, i) {
				if k > 0 {
					line = append(line, ',')
				}
				line = append(line, null...)
				continue
			}
			value, err = appendValue(value[:0], column, i)
			if err != nil {
				return nil, fmt.Errorf("column %q: %w", b.ColumnName(k), err)
			}
			line = appendField(line, k, value, null)
		}
		return line, nil
	}
	_, err := t.w.Write(append(t.line, '\n'))
	return t, err
}

// appendField appends a CSV field that is not null. It also quotes values that start with white space, or with the
// first byte of a byte order mark, and those that are the text null.
func appendField(line []byte, index int, value []byte, null string) []byte {
	if index > 0 {
		line = append(line, ',')
	}
	if len(value) > 0 && value[0] > ' ' && value[0] != 0xef && string(value) != null && !bytes.ContainsAny(value, ",\"\r\n") {
		return append(line, value...)
	}
	return append(append(append(line, '"'), bytes.ReplaceAll(value, []byte(`"`), []byte(`""`))...), '"')
}

// newJSONWriter returns a writer of JSON lines: one object per row, with members in column order.
func newJSONWriter(w io.Writer, schema *arrow.Schema) (*textWriter, error) {
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
	return &textWriter{w: bufio.NewWriterSize(w, 1<<16), row: func(line []byte, b arrow.RecordBatch, i int) (_ []byte, err error) {
		for k, column := range b.Columns() {
			line, err = appendJSON(append(line, names[k]...), column, i)
			if err != nil {
				return nil, fmt.Errorf("column %q: %w", b.ColumnName(k), err)
			}
		}
		return append(line, '}'), nil
	}}, nil
}

// unpack follows dictionary, run-end-encoded and extension arrays, except UUIDs, to the array and index that hold
// value i of a.
func unpack(a arrow.Array, i int) (arrow.Array, int) {
	for {
		switch typed := a.(type) {
		case *array.Dictionary:
			if typed.IsNull(i) {
				return a, i
			}
			a, i = typed.Dictionary(), typed.GetValueIndex(i)
		case *array.RunEndEncoded:
			a, i = typed.Values(), typed.GetPhysicalIndex(i)
		case array.ExtensionArray:
			if typed.ExtensionType().ExtensionName() == "arrow.uuid" {
				return a, i
			}
			a = typed.Storage()
		default:
			return a, i
		}
	}
}

// isNull reports whether value i is null. Columns of the null type need an extra check, because they have no bitmap.
func isNull(a arrow.Array, i int) bool { return a.IsNull(i) || a.DataType().ID() == arrow.NULL }

// AppendText appends a value's text as CSV represents it. Different values in a column have different texts.
// isNullValue means that the value is null, so nothing was appended.
func AppendText(out []byte, column arrow.Array, i int) (_ []byte, isNullValue bool, err error) {
	column, i = unpack(column, i)
	if isNull(column, i) {
		return out, true, nil
	}
	out, err = appendValue(out, column, i)
	return out, false, err
}

// appendValue appends a value that is not null. It writes nested values as JSON.
func appendValue(out []byte, a arrow.Array, i int) ([]byte, error) {
	if arrow.IsNested(a.DataType().ID()) {
		return appendJSON(out, a, i)
	}
	return appendText(out, a, i), nil
}

// appendText appends a value that is neither nested nor null, in the form that adder parses.
func appendText(out []byte, a arrow.Array, i int) []byte {
	switch a := a.(type) {
	case array.StringLike:
		return append(out, a.Value(i)...)
	case *array.Int64:
		return strconv.AppendInt(out, a.Value(i), 10)
	case *array.Float64:
		return strconv.AppendFloat(out, a.Value(i), 'g', -1, 64)
	case *array.Float16:
		return strconv.AppendFloat(out, float64(schema.FromFloat16(a.Value(i))), 'g', -1, 32)
	case *array.Decimal32:
		return appendDecimal(out, big.NewInt(int64(a.Value(i))), a.DataType())
	case *array.Decimal64:
		return appendDecimal(out, big.NewInt(int64(a.Value(i))), a.DataType())
	case *array.Decimal128:
		return appendDecimal(out, a.Value(i).BigInt(), a.DataType())
	case *array.Date32:
		return a.Value(i).ToTime().AppendFormat(out, time.DateOnly)
	case *array.Date64:
		instant := time.UnixMilli(int64(a.Value(i))).UTC()
		if a.Value(i)%(secondsPerDay*1000) != 0 {
			return appendTime(out, instant, false)
		}
		return instant.AppendFormat(out, time.DateOnly)
	case *array.Time32:
		return appendClock(out, int64(a.Value(i)), a.DataType().(*arrow.Time32Type).Unit)
	case *array.Time64:
		return appendClock(out, int64(a.Value(i)), a.DataType().(*arrow.Time64Type).Unit)
	case *array.Timestamp:
		t := a.DataType().(*arrow.TimestampType)
		instant := a.Value(i).ToTime(t.Unit)
		if zone, err := t.GetZone(); err == nil {
			instant = instant.In(zone)
		}
		return appendTime(out, instant, t.TimeZone != "")
	}
	return append(out, a.ValueStr(i)...)
}

func appendJSON(out []byte, a arrow.Array, i int) (_ []byte, err error) {
	a, i = unpack(a, i)
	if isNull(a, i) {
		return append(out, "null"...), nil
	}
	switch a := a.(type) {
	case *array.Struct:
		return appendObject(out, a, i, nil)
	case array.ListLike:
		return appendArray(out, a, i)
	case array.StringLike:
		return appendString(out, a.Value(i))
	case *array.Boolean:
		return strconv.AppendBool(out, a.Value(i)), nil
	case *array.Float64:
		return appendFloat(out, a.Value(i), 64), nil
	case *array.Float32:
		return appendFloat(out, float64(a.Value(i)), 32), nil
	case *array.Float16:
		return appendFloat(out, float64(schema.FromFloat16(a.Value(i))), 32), nil
	}
	if arrow.IsInteger(a.DataType().ID()) {
		return appendText(out, a, i), nil
	}
	return append(appendText(append(out, '"'), a, i), '"'), nil
}

func appendArray(out []byte, a array.ListLike, i int) (_ []byte, err error) {
	_, isMap := a.(*array.Map)
	out = append(out, '[')
	start, end := a.ValueOffsets(i)
	for k := start; k < end; k++ {
		if k > start {
			out = append(out, ',')
		}
		if isMap {
			out, err = appendObject(out, a.ListValues().(*array.Struct), int(k), entryNames)
		} else {
			out, err = appendJSON(out, a.ListValues(), int(k))
		}
		if err != nil {
			return nil, err
		}
	}
	return append(out, ']'), nil
}

// entryNames are the names that appendArray gives to a map's keys and values, whatever the map's type calls them.
var entryNames = []string{"key", "value"}

// appendObject appends a struct as a JSON object. If names is not nil, it replaces the fields' names.
func appendObject(out []byte, a *array.Struct, i int, names []string) (_ []byte, err error) {
	out = append(out, '{')
	for k, f := range a.DataType().(*arrow.StructType).Fields() {
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
		out, err = appendJSON(append(out, ':'), a.Field(k), i)
		if err != nil {
			return nil, err
		}
	}
	return append(out, '}'), nil
}

// appendFloat appends a float. It quotes NaN and infinities. It writes large floats with an exponent; otherwise,
// readers would take a large float for an integer that a float cannot represent exactly.
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
