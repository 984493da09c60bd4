package schema

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// PropertyPrefix is what the properties begin with that note how columns were put.
const PropertyPrefix = "partd.arrow-schema."

// Property is the property that notes how the columns of a schema were put, by its id.
func Property(schemaID int) string { return fmt.Sprintf("%s%d", PropertyPrefix, schemaID) }

// StoredOf returns the types in which a table stores its columns.
func StoredOf(s *iceberg.Schema) (*arrow.Schema, error) {
	return table.SchemaToArrowSchema(s, nil, false, false)
}

// PutOf returns a table's columns in the types in which they were put, by the property
// that notes them; as they are stored if it is "", for a schema that somebody else made.
func PutOf(stored *arrow.Schema, property string) (*arrow.Schema, error) {
	if property == "" {
		return stored, nil
	}
	put, err := Decode(property)
	if err != nil {
		return nil, err
	}
	return AsPut(stored, put), nil
}

// Shape is the schema that a table gets.
type Shape struct {
	Schema *iceberg.Schema // with ids of its own
	Stored *arrow.Schema
	Put    string // the schema that was put, for the property
	LastID int    // the last id of a column when the shape was made
}

// NewShape returns the shape for a schema that is put. The ids of its columns are above
// lastID.
func NewShape(put *arrow.Schema, lastID int) (*Shape, error) {
	sh := &Shape{LastID: lastID}
	if err := CheckNames(put); err != nil {
		return nil, err
	}
	stored, err := Stored(put)
	if err != nil {
		return nil, err
	}
	if sh.Schema, err = table.ArrowSchemaToIcebergWithFreshIDs(stored, false); err != nil {
		return nil, err
	}
	if sh.Schema, err = iceberg.AssignFreshSchemaIDs(sh.Schema, func() int { lastID++; return lastID }); err != nil {
		return nil, err
	}
	if sh.Stored, err = StoredOf(sh.Schema); err != nil {
		return nil, err
	}
	sh.Put, err = Encode(put)
	return sh, err
}

// Nanoseconds reports whether columns need Iceberg's third version.
func Nanoseconds(s *arrow.Schema) bool {
	return Has(arrow.StructOf(s.Fields()...), func(t arrow.DataType) bool {
		at, ok := t.(*arrow.TimestampType)
		return ok && at.Unit == arrow.Nanosecond
	})
}

// Has reports whether a type, or one of those in it, is such a one.
func Has(t arrow.DataType, is func(arrow.DataType) bool) bool {
	nested, ok := t.(arrow.NestedType)
	return is(t) || ok && slices.ContainsFunc(nested.Fields(), func(f arrow.Field) bool { return Has(f.Type, is) })
}
