package schema

import (
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
)

// WithLineage returns columns followed by Iceberg's row-lineage columns: _row_id and _last_updated_sequence_number.
// Rows that move to another file in their table must keep these values. Tables below format version 3 do not have these
// columns, so WithLineage returns the given columns unchanged. It also does so if the given columns already include one
// of these names, from another program.
func WithLineage(columns *iceberg.Schema, formatVersion int) *iceberg.Schema {
	isReserved := func(f iceberg.NestedField) bool { return slices.Contains(reservedColumns, f.Name) }
	if formatVersion < 3 || slices.ContainsFunc(columns.Fields(), isReserved) {
		return columns
	}
	return iceberg.SchemaWithRowLineage(columns)
}

// AddLineage is like WithLineage for Arrow's types, but always adds the two columns.
func AddLineage(s *arrow.Schema) *arrow.Schema {
	fields, metadata := s.Fields(), s.Metadata()
	for _, name := range reservedColumns {
		fields = append(fields, arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Int64, Nullable: true})
	}
	return arrow.NewSchema(fields, &metadata)
}
