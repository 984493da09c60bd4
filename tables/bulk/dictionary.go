package bulk

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/internal/rows/schema"
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

// encode converts a batch with plain columns to a schema that can have dictionaries. The caller must release the result.
func encode(b arrow.RecordBatch, to *arrow.Schema) (arrow.RecordBatch, error) {
	if b.Schema() == to {
		b.Retain()
		return b, nil
	}
	columns := schema.Columns(b, schema.Names(to))
	for i, f := range to.Fields() {
		d, ok := f.Type.(*arrow.DictionaryType)
		if !ok {
			continue
		}
		builder := array.NewDictionaryBuilder(memory.DefaultAllocator, d)
		defer builder.Release()
		if err := builder.AppendArray(columns[i]); err != nil {
			return nil, fmt.Errorf("column %q: encode the values as %s: %w", f.Name, d, err)
		}
		columns[i] = builder.NewArray()
		defer columns[i].Release()
	}
	return array.NewRecordBatch(to, columns, b.NumRows()), nil
}
