package datafile

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// convertToTable converts a file's column to tableType. fileField is the file's field. ids is the table's field with
// field IDs, which identify nested fields.
func (s *Scan) convertToTable(a arrow.Array, fileField, ids arrow.Field, tableType arrow.DataType) (arrow.Array, error) {
	switch tableType := tableType.(type) {
	case *arrow.StructType:
		from, ok := a.(*array.Struct)
		if !ok {
			break
		}
		children := make([]arrow.ArrayData, tableType.NumFields())
		for i, f := range tableType.Fields() {
			child, err := s.convertField(from, fileField, ids.Type.(*arrow.StructType).Field(i), f)
			if err != nil {
				return nil, fmt.Errorf("field %q: %w", f.Name, err)
			}
			children[i] = child.Data()
		}
		return take.NewArray(tableType, a.Len(), []*memory.Buffer{take.NullBitmap(a)}, children, a.NullN(), 0), nil
	case *arrow.MapType:
		from, ok := a.(*array.Map)
		if !ok {
			break
		}
		fileMap, idMap := fileField.Type.(*arrow.MapType), ids.Type.(*arrow.MapType)
		keys, err := s.convertToTable(from.Keys(), fileMap.KeyField(), idMap.KeyField(), tableType.KeyType())
		if err != nil {
			return nil, err
		}
		items, err := s.convertToTable(from.Items(), fileMap.ItemField(), idMap.ItemField(), tableType.ItemType())
		if err != nil {
			return nil, err
		}
		entries := take.NewArray(tableType.Elem(), keys.Len(), []*memory.Buffer{nil}, []arrow.ArrayData{keys.Data(), items.Data()}, 0, 0)
		return take.NewArray(tableType, a.Len(), a.Data().Buffers(), []arrow.ArrayData{entries.Data()}, a.NullN(), a.Data().Offset()), nil
	case *arrow.ListType:
		from, ok := a.(*array.List)
		if !ok {
			break
		}
		child, err := s.convertToTable(from.ListValues(), fileField.Type.(*arrow.ListType).ElemField(), ids.Type.(*arrow.ListType).ElemField(), tableType.Elem())
		if err != nil {
			return nil, err
		}
		return take.NewArray(tableType, a.Len(), a.Data().Buffers(), []arrow.ArrayData{child.Data()}, a.NullN(), a.Data().Offset()), nil
	}
	return widenArray(a, tableType)
}

// convertField returns a struct's field in the table's type. If the file lacks the field, all values are null.
func (s *Scan) convertField(from *array.Struct, fileField, ids, to arrow.Field) (arrow.Array, error) {
	for i, f := range fileField.Type.(*arrow.StructType).Fields() {
		if s.matchesField(f, ids) {
			return s.convertToTable(from.Field(i), f, ids, to.Type)
		}
	}
	return array.MakeArrayOfNull(memory.DefaultAllocator, to.Type, from.Len()), nil
}

// widenArray converts a column to a wider type, as Iceberg's schema evolution allows. Decimals of equal scale have the
// same bytes in every precision.
func widenArray(a arrow.Array, to arrow.DataType) (arrow.Array, error) {
	switch from := a.(type) {
	case *array.Int32:
		if to.ID() == arrow.INT64 {
			return take.NewArray(to, a.Len(), []*memory.Buffer{take.NullBitmap(a), widenValues[int64](from.Int32Values())}, nil, a.NullN(), 0), nil
		}
	case *array.Float32:
		if to.ID() == arrow.FLOAT64 {
			return take.NewArray(to, a.Len(), []*memory.Buffer{take.NullBitmap(a), widenValues[float64](from.Float32Values())}, nil, a.NullN(), 0), nil
		}
	case *array.Decimal128:
		fromType := a.DataType().(*arrow.Decimal128Type)
		if t, ok := to.(*arrow.Decimal128Type); ok && fromType.Scale == t.Scale && fromType.Precision <= t.Precision {
			return take.NewArray(to, a.Len(), a.Data().Buffers(), nil, a.NullN(), a.Data().Offset()), nil
		}
	}
	return schema.ConvertArray(a, to)
}

func widenValues[To, From int32 | int64 | float32 | float64](from []From) *memory.Buffer {
	values := make([]To, len(from))
	for i, v := range from {
		values[i] = To(v)
	}
	return memory.NewBufferBytes(arrow.GetBytes(values))
}
