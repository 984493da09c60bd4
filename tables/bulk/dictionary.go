package bulk

import (
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// plainSchema returns a schema with the types of the values instead of dictionaries. Temporary data has this schema,
// because otherwise each piece of a batch would contain a whole dictionary.
func plainSchema(s *arrow.Schema) *arrow.Schema {
	fields := s.Fields()
	changed := false
	for i, f := range fields {
		if d, ok := f.Type.(*arrow.DictionaryType); ok {
			fields[i].Type, changed = d.ValueType, true
		}
	}
	if !changed {
		return s
	}
	metadata := s.Metadata()
	return arrow.NewSchema(fields, &metadata)
}

// encoded yields rows with the given schema. It converts plain columns to dictionaries if the schema has dictionaries
// for them. A batch ends when a dictionary has as many values as its index type allows, because the rows of several
// batches can have more values than one dictionary holds.
func encoded(columns []arrow.Array, rows int64, to *arrow.Schema) sorted.Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for start, step := int64(0), rows; start < rows; {
			b, err := encode(columns, start, min(start+step, rows), to)
			if err != nil {
				yield(nil, err)
				return
			}
			start, step = start+b.NumRows(), 2*b.NumRows() // trying all other rows each time would take quadratic time
			if !yield(b, nil) {
				return
			}
		}
	}
}

// encode returns the rows from start to end, or fewer if their values do not all fit in dictionaries.
func encode(columns []arrow.Array, start, end int64, to *arrow.Schema) (arrow.RecordBatch, error) {
	parts := make([]arrow.Array, len(columns))
	for i, f := range to.Fields() {
		parts[i] = array.NewSlice(columns[i], start, end)
		defer parts[i].Release()
		d, ok := f.Type.(*arrow.DictionaryType)
		if !ok {
			continue
		}
		var err error
		parts[i], err = encodeColumn(parts[i], d)
		if err != nil {
			return nil, fmt.Errorf("column %q: encode the values as %s: %w", f.Name, d, err)
		}
		defer parts[i].Release()
		end = start + int64(parts[i].Len())
	}
	for i, a := range parts {
		parts[i] = array.NewSlice(a, 0, end-start)
		defer parts[i].Release()
	}
	return array.NewRecordBatch(to, parts, end-start), nil
}

// encodeColumn returns the values of a with a dictionary, up to the first value that gets no index.
func encodeColumn(a arrow.Array, d *arrow.DictionaryType) (arrow.Array, error) {
	limit := math.MaxInt32
	if width := d.IndexType.(arrow.FixedWidthDataType).BitWidth(); width < 32 {
		limit = 1<<width - 1
		if arrow.IsSignedInteger(d.IndexType.ID()) {
			limit >>= 1
		}
	}
	appendKey, key := textKey(a), []byte(nil)
	codes, first, err := (&take.Dictionary{Codes: map[string]int32{}}).Encode(a, func(row int) (_ []byte, err error) {
		key, err = appendKey(key[:0], row)
		return key, err
	}, func(code int, _ []byte) bool { return code <= limit })
	if err != nil {
		return nil, err
	}
	defer codes.Release()
	values, err := take.Rows(a, first)
	if err != nil {
		return nil, err
	}
	defer values.Release()
	indices, err := schema.ConvertArray(codes, d.IndexType)
	if err != nil {
		return nil, err
	}
	defer indices.Release()
	return array.NewDictionaryArray(d, indices, values), nil
}
