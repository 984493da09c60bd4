package bulk

import (
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

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

// encode returns a batch with the schema to. Its plain columns are converted to dictionaries where to has them. The caller
// must release the result.
func encode(columns []arrow.Array, rows int64, to *arrow.Schema) (arrow.RecordBatch, error) {
	columns = slices.Clone(columns)
	for i, f := range to.Fields() {
		d, ok := f.Type.(*arrow.DictionaryType)
		if !ok {
			continue
		}
		var err error
		if columns[i], err = encodeColumn(columns[i], d); err != nil {
			return nil, fmt.Errorf("column %q: encode the values as %s: %w", f.Name, d, err)
		}
		defer columns[i].Release()
	}
	return array.NewRecordBatch(to, columns, rows), nil
}

// encodeColumn returns the values of a with a dictionary. It replaces the builders of arrow-go 18.8, which do not support
// all types of values.
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
				return nil, fmt.Errorf("a dictionary can have at most %d values", limit+1)
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
