package schema

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// PropertyPrefix begins the names of the properties that contain put schemas: the column types that puts gave a table.
const PropertyPrefix = "partd.arrow-schema."

// Property returns the name of the property that contains the put schema for a schema ID.
func Property(schemaID int) string { return fmt.Sprintf("%s%d", PropertyPrefix, schemaID) }

// PutSchema returns the column types that puts gave a table, from the property's value. If another program created the
// schema, property is "", and PutSchema returns the stored types.
func PutSchema(stored *arrow.Schema, property string) (*arrow.Schema, error) {
	if property == "" {
		return stored, nil
	}
	original, err := Decode(property)
	if err != nil {
		return nil, err
	}
	return RestorePutTypes(stored, original), nil
}

// Shape has the schemas of a new or changed table.
type Shape struct {
	Schema      *iceberg.Schema
	Stored      *arrow.Schema
	PutProperty string // value of the property with the put schema
	LastID      int    // highest column ID when the shape was created
}

// NewShape returns the shape for a put's schema. Fields keep the IDs of equal fields in replaced, which may be nil (see
// inherit). All other IDs are above lastID.
func NewShape(putSchema *arrow.Schema, replaced *iceberg.Schema, lastID int) (*Shape, error) {
	if err := CheckNames(putSchema); err != nil {
		return nil, err
	}
	stored, err := Stored(putSchema)
	if err != nil {
		return nil, err
	}
	columns, err := table.ArrowSchemaToIcebergWithFreshIDs(stored, false)
	if err != nil {
		return nil, err
	}
	nextID := lastID
	columns, err = iceberg.AssignFreshSchemaIDs(columns, func() int { nextID++; return nextID })
	if err != nil {
		return nil, err
	}
	if replaced != nil {
		fields, _ := inheritFields(columns.Fields(), replaced.Fields())
		columns = iceberg.NewSchemaWithIdentifiers(columns.ID, replaced.IdentifierFieldIDs, fields...)
	}
	return ShapeOf(columns, putSchema, lastID)
}

// ShapeOf returns the shape with the given columns. putSchema has their types as put, and lastID becomes the shape's
// LastID. The shape has no identifier fields that columns lacks or that may be null.
func ShapeOf(columns *iceberg.Schema, putSchema *arrow.Schema, lastID int) (*Shape, error) {
	identifiers := slices.DeleteFunc(slices.Clone(columns.IdentifierFieldIDs), func(id int) bool {
		f, ok := columns.FindFieldByID(id)
		return !ok || !f.Required
	})
	columns = iceberg.NewSchemaWithIdentifiers(columns.ID, identifiers, columns.Fields()...)
	stored, err := StoredSchema(columns)
	if err != nil {
		return nil, err
	}
	property, err := Encode(putSchema)
	return &Shape{columns, stored, property, lastID}, err
}

// HasNanoseconds reports whether columns contain timestamps in nanoseconds. These require version 3 of the Iceberg
// format.
func HasNanoseconds(s *arrow.Schema) bool {
	return ContainsType(arrow.StructOf(s.Fields()...), func(t arrow.DataType) bool {
		timestamp, ok := t.(*arrow.TimestampType)
		return ok && timestamp.Unit == arrow.Nanosecond
	})
}

// IsZonedNanos reports whether t is a timestamp in nanoseconds with a time zone. SQL has no such type.
func IsZonedNanos(t arrow.DataType) bool {
	timestamp, ok := t.(*arrow.TimestampType)
	return ok && timestamp.Unit == arrow.Nanosecond && timestamp.TimeZone != ""
}
