package bulk

import (
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// plainSchema returns a schema with the types of the values instead of dictionaries. Temporary data has this schema,
// because otherwise each piece would contain a whole dictionary.
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

// encoded yields rows with the schema to. Plain columns are converted to dictionaries where to has them. A batch ends where
// a dictionary of its index type is full, because rows of several batches can have more values than one dictionary holds.
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

// encode returns the rows from start that fit in dictionaries, at most up to end.
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
		if parts[i], err = encodeColumn(parts[i], d); err != nil {
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

// encodeColumn returns the values of a with a dictionary, up to the first value that gets no index. It replaces the
// builders of arrow-go 18.8, which do not support all types of values.
func encodeColumn(a arrow.Array, d *arrow.DictionaryType) (arrow.Array, error) {
	appendKey := valueAppender(a)
	var first []int // row with the first occurrence of each value
	known := map[string]int{}
	indices := array.NewBuilder(memory.DefaultAllocator, d.IndexType)
	defer indices.Release()
	add, limit := indexAppender(indices)
	var key []byte
	for row := range a.Len() {
		if a.IsNull(row) {
			indices.AppendNull()
			continue
		}
		var err error
		if key, err = appendKey(key[:0], row); err != nil {
			return nil, err
		}
		n, ok := known[string(key)]
		if !ok {
			if n = len(first); n > limit {
				break
			}
			known[string(key)] = n
			first = append(first, row)
		}
		add(n)
	}
	values, err := take.Rows(a, first)
	if err != nil {
		return nil, err
	}
	defer values.Release()
	indexArray := indices.NewArray()
	defer indexArray.Release()
	return array.NewDictionaryArray(d, indexArray, values), nil
}

// indexAppender returns a function that appends to a builder of integers, and the largest integer that it can append.
func indexAppender(b array.Builder) (add func(int), limit int) {
	switch b := b.(type) {
	case *array.Int8Builder:
		return func(n int) { b.Append(int8(n)) }, math.MaxInt8
	case *array.Uint8Builder:
		return func(n int) { b.Append(uint8(n)) }, math.MaxUint8
	case *array.Int16Builder:
		return func(n int) { b.Append(int16(n)) }, math.MaxInt16
	case *array.Uint16Builder:
		return func(n int) { b.Append(uint16(n)) }, math.MaxUint16
	case *array.Int32Builder:
		return func(n int) { b.Append(int32(n)) }, math.MaxInt32
	case *array.Uint32Builder:
		return func(n int) { b.Append(uint32(n)) }, math.MaxInt32
	case *array.Int64Builder:
		return func(n int) { b.Append(int64(n)) }, math.MaxInt32
	}
	return func(n int) { b.(*array.Uint64Builder).Append(uint64(n)) }, math.MaxInt32
}
