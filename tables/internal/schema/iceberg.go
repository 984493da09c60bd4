package schema

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// PropertyPrefix is the prefix of the properties that contain schemas as put.
const PropertyPrefix = "partd.arrow-schema."

// Property returns the name of the property that contains the put types of a schema, by the schema's ID.
func Property(schemaID int) string { return fmt.Sprintf("%s%d", PropertyPrefix, schemaID) }

// StoredOf returns the stored types of a table's columns.
func StoredOf(s *iceberg.Schema) (*arrow.Schema, error) {
	return table.SchemaToArrowSchema(s, nil, false, false)
}

// PutOf returns a table's columns in the types in which they were put, from the property. If it is "", because
// another program created the schema, PutOf returns the stored types.
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

// Shape is the schema of a new or changed table.
type Shape struct {
	Schema *iceberg.Schema // with new IDs
	Stored *arrow.Schema
	Put    string // value of the property: the schema that was put
	LastID int    // the highest column ID when the shape was created
}

// NewShape returns the shape for the schema of a put. Its column IDs are above lastID.
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

// Nanoseconds reports whether columns need version 3 of the Iceberg format.
func Nanoseconds(s *arrow.Schema) bool {
	return Has(arrow.StructOf(s.Fields()...), func(t arrow.DataType) bool {
		at, ok := t.(*arrow.TimestampType)
		return ok && at.Unit == arrow.Nanosecond
	})
}

// ZonedNanos reports whether a type is a timestamp in nanoseconds with a zone, which SQL lacks.
func ZonedNanos(t arrow.DataType) bool {
	at, ok := t.(*arrow.TimestampType)
	return ok && at.Unit == arrow.Nanosecond && at.TimeZone != ""
}

// CheckReadable returns an error that names the first column that cannot be read. A column of Iceberg's variant
// type has parts that are not columns.
func CheckReadable(stored *arrow.Schema) error {
	for _, f := range stored.Fields() {
		if Has(f.Type, isVariant) {
			return Errorf(f.Name, "it has type %s: tables do not read values of Iceberg's type variant", f.Type)
		}
	}
	return nil
}

func isVariant(t arrow.DataType) bool {
	_, ok := t.(*extensions.VariantType)
	return ok
}

// Has reports whether match returns true for a type or any type within it.
func Has(t arrow.DataType, match func(arrow.DataType) bool) bool {
	nested, ok := t.(arrow.NestedType)
	return match(t) || ok && slices.ContainsFunc(nested.Fields(), func(f arrow.Field) bool { return Has(f.Type, match) })
}
