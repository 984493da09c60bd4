package schema

import (
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/textfmt"
)

// StoredSchema returns the stored types of a table's columns.
func StoredSchema(s *iceberg.Schema) (*arrow.Schema, error) {
	return table.SchemaToArrowSchema(s, nil, false, false)
}

// CheckReadable returns an error that names the first column that cannot be read because it contains Iceberg's variant
// type.
func CheckReadable(stored *arrow.Schema) error {
	for _, f := range stored.Fields() {
		if ContainsType(f.Type, isVariant) {
			return Errorf(f.Name, "the column has type %s: reading Iceberg's variant type is not supported", f.Type)
		}
	}
	return nil
}

func isVariant(t arrow.DataType) bool {
	_, ok := t.(*extensions.VariantType)
	return ok
}

// ContainsType reports whether match returns true for a type or any type nested in it.
func ContainsType(t arrow.DataType, match func(arrow.DataType) bool) bool {
	nested, ok := t.(arrow.NestedType)
	return match(t) || ok && slices.ContainsFunc(nested.Fields(), func(f arrow.Field) bool { return ContainsType(f.Type, match) })
}

// CountFields returns the number of columns, including those within columns.
func CountFields(s *arrow.Schema) (n int) {
	for _, f := range s.Fields() {
		ContainsType(f.Type, func(arrow.DataType) bool { n++; return false })
	}
	return n
}

// Names returns the names of a schema's columns.
func Names(s *arrow.Schema) []string {
	names := make([]string, s.NumFields())
	for i, f := range s.Fields() {
		names[i] = f.Name
	}
	return names
}

// Select returns the schema of the named columns, in the order of s.
func Select(s *arrow.Schema, names []string) *arrow.Schema {
	var fields []arrow.Field
	for _, f := range s.Fields() {
		if slices.Contains(names, f.Name) {
			fields = append(fields, f)
		}
	}
	return arrow.NewSchema(fields, nil)
}

// ColumnIndex returns a column's index. If there is no such column, the error is an [Error] that lists the columns.
func ColumnIndex(s *arrow.Schema, name string) (int, error) {
	indices := s.FieldIndices(name)
	if len(indices) == 0 {
		return -1, Errorf(name, "the table has no such column%s, only %q", textfmt.Hint(name, Names(s)), Names(s))
	}
	return indices[0], nil
}

// Columns returns the named columns of a batch, which must have them.
func Columns(batch arrow.RecordBatch, names []string) []arrow.Array {
	columns := make([]arrow.Array, len(names))
	for i, name := range names {
		columns[i] = batch.Column(batch.Schema().FieldIndices(name)[0])
	}
	return columns
}

// Project returns the columns of a batch that the given schema lists. The batch must have these columns, with the types
// in the schema. The caller must release the result.
func Project(batch arrow.RecordBatch, to *arrow.Schema) arrow.RecordBatch {
	if batch.Schema() == to {
		batch.Retain()
		return batch
	}
	return array.NewRecordBatch(to, Columns(batch, Names(to)), batch.NumRows())
}
