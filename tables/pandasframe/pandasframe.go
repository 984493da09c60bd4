// Package pandasframe converts the frames of Python's partd.PandasBlocks to Arrow record
// batches and back. It builds on package encode, which represents the columns of a frame as
// slices.
//
// A conversion keeps every value, or returns an error that names the column. A null integer or
// bool is an error, because pandas cannot represent it; a null float becomes NaN. As in pyarrow,
// the schema's metadata describes the index, which is a column of the batch unless it is a range.
package pandasframe

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/encode"
)

// Blocks is encode.PandasBlocks for record batches. Decoded batches need not be released.
func Blocks(o *encode.PandasOptions) encode.ValueCodec[arrow.RecordBatch] {
	frames := encode.PandasBlocks(o)
	return encode.ValueCodec[arrow.RecordBatch]{
		Encode: func(dst []byte, b arrow.RecordBatch) ([]byte, error) {
			d, err := Frame(b)
			if err != nil {
				return dst, err
			}
			return frames.Encode(dst, d)
		},
		Decode: func(data []byte) (arrow.RecordBatch, error) {
			d, err := frames.Decode(data)
			if err != nil {
				return nil, err
			}
			return Batch(d)
		},
		Join: func(pieces []arrow.RecordBatch) (_ arrow.RecordBatch, err error) {
			if len(pieces) == 1 {
				return pieces[0], nil
			}
			all := make([]encode.DataFrame, len(pieces))
			for i, b := range pieces {
				if all[i], err = Frame(b); err != nil {
					return nil, err
				}
			}
			joined, err := frames.Join(all)
			if err != nil {
				return nil, err
			}
			return Batch(joined)
		},
	}
}

// notes is the value of the key "pandas" in a schema's metadata, in pyarrow's format.
type notes struct {
	IndexColumns  []json.RawMessage `json:"index_columns"` // each is a rangeNote or the name of a column
	ColumnIndexes []any             `json:"column_indexes"`
	Columns       []note            `json:"columns"`
}

type rangeNote struct {
	Kind  string `json:"kind"`
	Name  any    `json:"name"`
	Start int64  `json:"start"`
	Stop  int64  `json:"stop"`
	Step  int64  `json:"step"`
}

// note describes the index column.
type note struct {
	Name  any    `json:"name"`
	Field string `json:"field_name"`
	// pyarrow expects these keys, but does not use their values.
	Pandas string `json:"pandas_type"`
	NumPy  string `json:"numpy_type"`
}

const notesKey = "pandas"

// Batch converts a frame to a record batch, which shares the memory of the frame's numbers.
func Batch(d encode.DataFrame) (arrow.RecordBatch, error) {
	columns, n := d.Columns[:len(d.Columns):len(d.Columns)], notes{ColumnIndexes: []any{}, Columns: []note{}}
	switch d.Index.Name.(type) {
	case nil, string:
	default:
		return nil, fmt.Errorf("index %v: its name is a %T, but must be a string", d.Index.Name, d.Index.Name)
	}
	var index any
	switch r := d.Index.Values.(type) {
	case nil:
		index = rangeNote{"range", nil, 0, int64(d.Rows()), 1}
	case encode.Range:
		if r.Len() != d.Rows() {
			return nil, fmt.Errorf("the index has %d rows, but the frame has %d", r.Len(), d.Rows())
		}
		index = rangeNote{"range", d.Index.Name, r.Start, r.Stop, r.Step}
	default:
		field, _ := d.Index.Name.(string)
		taken := func(c encode.Column) bool { return c.Name == field }
		for i := 0; field == "" || slices.ContainsFunc(d.Columns, taken); i++ { // pyarrow uses these names
			field = fmt.Sprintf("__index_level_%d__", i)
		}
		index, n.Columns = field, []note{{d.Index.Name, field, "", "object"}}
		columns = append(columns, encode.Column{Name: field, Values: r})
	}
	noted, err := json.Marshal(index)
	if err != nil {
		return nil, fmt.Errorf("index %v: %w", d.Index.Name, err)
	}
	n.IndexColumns = []json.RawMessage{noted}
	var fields []arrow.Field
	var arrays []arrow.Array
	for _, c := range columns {
		name, ok := c.Name.(string)
		if !ok {
			return nil, fmt.Errorf("column %v: its name is a %T, but must be a string", c.Name, c.Name)
		}
		a, err := toArrow(c.Values)
		if err == nil && !utf8.ValidString(name) {
			err = errors.New("its name is not valid UTF-8")
		}
		if err == nil && a.Len() != d.Rows() {
			err = fmt.Errorf("it has %d rows, but the frame has %d", a.Len(), d.Rows())
		}
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", name, err)
		}
		arrays = append(arrays, a)
		fields = append(fields, arrow.Field{Name: name, Type: a.DataType(), Nullable: true})
	}
	text, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("index %v: %w", d.Index.Name, err)
	}
	metadata := arrow.NewMetadata([]string{notesKey}, []string{string(text)})
	return array.NewRecordBatch(arrow.NewSchema(fields, &metadata), arrays, int64(d.Rows())), nil
}

// Frame converts a record batch to a frame. If the schema's metadata describes no index, the
// rows are numbered from 0.
func Frame(b arrow.RecordBatch) (d encode.DataFrame, err error) {
	var n notes
	if text, ok := b.Schema().Metadata().GetValue(notesKey); ok {
		if err := json.Unmarshal([]byte(text), &n); err != nil {
			return d, fmt.Errorf("the schema's pandas metadata: %w", err)
		}
	}
	index, r := "", rangeNote{Step: 1}
	if len(n.IndexColumns) > 1 {
		return d, fmt.Errorf("the index has %d columns: a MultiIndex is not supported", len(n.IndexColumns))
	}
	for _, noted := range n.IndexColumns {
		if json.Unmarshal(noted, &index) != nil && json.Unmarshal(noted, &r) != nil {
			return d, fmt.Errorf("the schema's pandas metadata describes an unsupported index: %s", noted)
		}
	}
	if numbers := (encode.Range{Start: r.Start, Stop: r.Stop, Step: r.Step}); index == "" && int64(numbers.Len()) == b.NumRows() {
		d.Index = encode.Column{Name: r.Name, Values: numbers}
	}
	for i, f := range b.Schema().Fields() {
		values, err := fromArrow(b.Column(i))
		if err != nil {
			return d, fmt.Errorf("column %s (%s): %w", f.Name, f.Type, err)
		}
		if f.Name != index {
			d.Columns = append(d.Columns, encode.Column{Name: f.Name, Values: values})
			continue
		}
		d.Index.Values = values
		for _, c := range n.Columns {
			if c.Field == index {
				d.Index.Name = c.Name
			}
		}
	}
	return d, nil
}
