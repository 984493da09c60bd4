// Package schema maintains a table's columns in three type systems and casts rows between them: the put types, the
// types that Iceberg stores, and the logical types that readers see.
//
// A column of a type that Iceberg lacks is stored with a wider type ([Stored]). The table's properties contain the
// original schema ([Encode]). Readers see the original types, except for encodings such as dictionaries
// ([RestorePutTypes], [WithoutEncodings]). A put with columns that cannot be stored without loss is rejected with an
// error that names these columns. docs/types.md lists all types. [Caster] casts rows from one schema to another.
package schema

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// RefusedColumns lists the columns of a schema that Iceberg cannot store.
type RefusedColumns []RefusedColumn

// RefusedColumn is a column that Iceberg cannot store.
type RefusedColumn struct {
	Name   string
	Type   arrow.DataType
	Reason string
}

func (r RefusedColumns) Error() string {
	all := make([]string, len(r))
	for i, c := range r {
		all[i] = fmt.Sprintf("column %q has type %s: %s", c.Name, c.Type, c.Reason)
	}
	return strings.Join(all, "; ")
}

// error returns an Error that names the first column and wraps r.
func (r RefusedColumns) error() error { return &Error{r[0].Name, r} }

var errNoColumns = errors.New("the rows have no columns, but a table with rows needs at least one")

// Error is an error about a column in a put or a scan, or about a put without columns.
type Error struct {
	Column string
	Err    error // the cause
}

func (e *Error) Error() string {
	if errors.Is(e.Err, errNoColumns) {
		return e.Err.Error()
	}
	return "column " + strconv.Quote(e.Column) + ": " + e.Err.Error()
}

// Errorf returns an Error about a column.
func Errorf(column, format string, args ...any) *Error {
	return &Error{column, fmt.Errorf(format, args...)}
}

func (e *Error) Unwrap() error { return e.Err }

// Stored returns the schema with which a table stores columns that have the types in putSchema. The error is an
// [Error]; it wraps [RefusedColumns] if columns cannot be stored.
func Stored(putSchema *arrow.Schema) (*arrow.Schema, error) {
	if putSchema.NumFields() == 0 {
		return nil, &Error{Err: errNoColumns}
	}
	var refused RefusedColumns
	fields, seen := make([]arrow.Field, putSchema.NumFields()), map[string]bool{}
	for i, f := range putSchema.Fields() {
		if seen[f.Name] {
			return nil, &Error{f.Name, errors.New("two columns have this name: rename one")}
		}
		seen[f.Name] = true
		t, err := StoredType(f.Type)
		if err != nil {
			refused = append(refused, RefusedColumn{f.Name, f.Type, err.Error()})
		}
		fields[i] = arrow.Field{Name: f.Name, Type: t, Nullable: f.Nullable}
	}
	if refused != nil {
		return nil, refused.error()
	}
	return arrow.NewSchema(fields, nil), nil
}

// StoredType returns the type that a table uses to store values of type t.
func StoredType(t arrow.DataType) (arrow.DataType, error) {
	row := arrowtype.Of(t)
	if row.Stored != nil {
		return row.Stored, nil
	}
	switch {
	case arrowtype.Inner(t) != nil:
		return StoredType(arrowtype.Inner(t))
	case row.Kind == arrowtype.Binary: // values of a fixed size
		if t.(arrow.FixedWidthDataType).Bytes() > 0 {
			return t, nil
		}
	case row.Decimals != nil:
		d := t.(arrow.DecimalType)
		if d.GetScale() < 0 || d.GetScale() > d.GetPrecision() {
			return nil, fmt.Errorf("a decimal's scale must be from 0 to its precision")
		}
		return &arrow.Decimal128Type{Precision: d.GetPrecision(), Scale: d.GetScale()}, nil
	case row.Kind == arrowtype.Time:
		if t.(*arrow.Time64Type).Unit == arrow.Nanosecond {
			return arrow.PrimitiveTypes.Int64, nil
		}
		return t, nil
	case row.Kind == arrowtype.Timestamp:
		t := t.(*arrow.TimestampType)
		stored := &arrow.TimestampType{Unit: max(t.Unit, arrow.Microsecond)}
		if t.TimeZone != "" {
			stored.TimeZone = "UTC"
		}
		return stored, nil
	case row.WithFields != nil:
		return storedNested(t)
	}
	return nil, fmt.Errorf("no Iceberg type can store %s", t)
}

func storedNested(t arrow.DataType) (arrow.DataType, error) {
	kind, fields := arrowtype.KindOf(t), slices.Clone(arrowtype.Fields(t))
	if len(fields) == 0 {
		return nil, errors.New("a struct must have at least one field")
	}
	for i, f := range fields {
		stored, err := StoredType(f.Type)
		switch {
		case err != nil && kind == arrowtype.Struct:
			return nil, fmt.Errorf("in field %q: %w", f.Name, err)
		case err != nil:
			return nil, err
		}
		fields[i] = arrow.Field{Name: f.Name, Type: stored, Nullable: f.Nullable}
	}
	switch kind {
	case arrowtype.Map:
		return arrow.MapOf(fields[0].Type, fields[1].Type), nil // iceberg-go writes all maps with nullable items.
	case arrowtype.List:
		fields[0].Name = "element"
		return arrow.ListOfField(fields[0]), nil
	}
	return arrow.StructOf(fields...), nil
}

// RestorePutTypes returns a table's columns with the types in putSchema. A column that another program has added or
// changed keeps its stored type.
func RestorePutTypes(stored, putSchema *arrow.Schema) *arrow.Schema {
	fields := make([]arrow.Field, stored.NumFields())
	for i, f := range stored.Fields() {
		fields[i] = arrow.Field{Name: f.Name, Type: f.Type, Nullable: f.Nullable}
		if indices := putSchema.FieldIndices(f.Name); len(indices) == 1 {
			original := putSchema.Field(indices[0])
			if t, err := StoredType(original.Type); err == nil && Alike(t, f.Type) {
				fields[i].Type, fields[i].Metadata = original.Type, original.Metadata
			}
		}
	}
	metadata := putSchema.Metadata()
	return arrow.NewSchema(fields, &metadata)
}

// DictionaryKey is the key in a field's metadata under which the values of a dictionary column are stored.
const DictionaryKey = "partd.dictionary"

// Dictionary returns the values of a dictionary column, or nil if none are stored. The caller must release them.
func Dictionary(f arrow.Field) (arrow.Array, error) {
	text, hasValues := f.Metadata.GetValue(DictionaryKey)
	if _, ok := f.Type.(*arrow.DictionaryType); !ok || !hasValues {
		return nil, nil
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	r, err := ipc.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	defer r.Release()
	if !r.Next() {
		return nil, r.Err()
	}
	values := r.RecordBatch().Column(0)
	values.Retain()
	return values, nil
}

// ValuesKey is the key in a field's metadata for the kind of a column's values, such as period[M], where the type does
// not determine the kind. The Python package partd_go writes this key.
const ValuesKey = "partd_go.values"

// CheckValues returns an error if a put's column has another kind of values than the table's column of the same type.
func CheckValues(put, column arrow.Field) error {
	values, _ := put.Metadata.GetValue(ValuesKey)
	stored, _ := column.Metadata.GetValue(ValuesKey)
	if values == stored || put.Type.ID() == arrow.NULL || column.Type.ID() == arrow.NULL {
		return nil
	}
	return Errorf(put.Name, "the column's values are of kind %s, but the table's are of kind %s", cmp.Or(values, put.Type.String()), cmp.Or(stored, column.Type.String()))
}

// WithoutEncodings returns s with dictionary and run-end-encoded types replaced by their values' types.
func WithoutEncodings(s *arrow.Schema) *arrow.Schema {
	return Without(s, arrow.DICTIONARY, arrow.RUN_END_ENCODED)
}

// Without returns s with types of the given kinds replaced by the plain types of their values, even within nested types.
// A kind is [arrow.DICTIONARY], [arrow.RUN_END_ENCODED], [arrow.STRING_VIEW] or [arrow.BINARY_VIEW].
func Without(s *arrow.Schema, kinds ...arrow.Type) *arrow.Schema {
	fields := MapTypes(s.Fields(), func(t arrow.DataType) arrow.DataType { return plainType(t, kinds) })
	for i, f := range fields {
		if slices.Contains(kinds, arrow.DICTIONARY) && f.Metadata.FindKey(DictionaryKey) >= 0 {
			m := f.Metadata.ToMap()
			delete(m, DictionaryKey)
			fields[i].Metadata = arrow.MetadataFrom(m)
		}
	}
	metadata := s.Metadata()
	return arrow.NewSchema(fields, &metadata)
}

// DecodedType returns the type of the values in a dictionary or run-end-encoded type, even within nested types.
func DecodedType(t arrow.DataType) arrow.DataType {
	return plainType(t, []arrow.Type{arrow.DICTIONARY, arrow.RUN_END_ENCODED})
}

func plainType(t arrow.DataType, kinds []arrow.Type) arrow.DataType {
	return MapLeaves(t, func(t arrow.DataType) arrow.DataType {
		if !slices.Contains(kinds, t.ID()) {
			return t
		}
		if plain := arrowtype.Of(t).Plain; plain != nil {
			return plain
		}
		return plainType(arrowtype.Inner(t), kinds)
	})
}

// MapTypes returns fields with their types replaced by the results of f.
func MapTypes(fields []arrow.Field, f func(arrow.DataType) arrow.DataType) []arrow.Field {
	mapped := slices.Clone(fields)
	for i := range mapped {
		mapped[i].Type = f(mapped[i].Type)
	}
	return mapped
}

// MapLeaves returns t with its leaf types replaced by the results of f. It calls f for the leaves in order.
func MapLeaves(t arrow.DataType, f func(arrow.DataType) arrow.DataType) arrow.DataType {
	return rebuild(t, func(field arrow.Field) arrow.Field {
		field.Type = MapLeaves(field.Type, f)
		return field
	}, f)
}

// rebuild returns t with its direct fields replaced by the results of mapField. For a type without fields, it returns
// mapLeaf(t).
func rebuild(t arrow.DataType, mapField func(arrow.Field) arrow.Field, mapLeaf func(arrow.DataType) arrow.DataType) arrow.DataType {
	if arrowtype.Of(t).WithFields == nil {
		return mapLeaf(t)
	}
	fields := slices.Clone(arrowtype.Fields(t))
	for i := range fields {
		fields[i] = mapField(fields[i])
	}
	return arrowtype.WithFields(t, fields)
}

// MapFields returns t with its nested fields replaced by the results of f, the innermost first.
func MapFields(t arrow.DataType, f func(arrow.Field) arrow.Field) arrow.DataType {
	mapField := func(field arrow.Field) arrow.Field {
		field.Type = MapFields(field.Type, f)
		return f(field)
	}
	if m, ok := t.(*arrow.MapType); ok { // rebuild does not keep the metadata of a map's fields
		changed := arrow.MapOfFields(mapField(m.KeyField()), mapField(m.ItemField()))
		changed.KeysSorted = m.KeysSorted
		return changed
	}
	return rebuild(t, mapField, func(t arrow.DataType) arrow.DataType { return t })
}

// Alike reports whether two types are equal apart from metadata, nullability, and the field names in lists and maps,
// which differ between Iceberg and Parquet. UUIDs are equal to other 16-byte values.
func Alike(a, b arrow.DataType) bool {
	a, b = uuidBytes(a), uuidBytes(b)
	if a.ID() != b.ID() {
		return false
	}
	fieldsA, fieldsB := arrowtype.Fields(a), arrowtype.Fields(b)
	if fieldsA == nil {
		return arrow.TypeEqual(a, b)
	}
	return slices.EqualFunc(fieldsA, fieldsB, func(f, g arrow.Field) bool {
		return (a.ID() != arrow.STRUCT || f.Name == g.Name) && Alike(f.Type, g.Type)
	})
}

// uuidBytes returns the storage type of a UUID type, and other types unchanged.
func uuidBytes(t arrow.DataType) arrow.DataType {
	if arrowtype.KindOf(t) == arrowtype.UUID {
		return arrowtype.Inner(t)
	}
	return t
}

// Encode encodes a schema as a string for a table property.
func Encode(schema *arrow.Schema) (string, error) {
	var b bytes.Buffer
	if err := ipc.NewWriter(&b, ipc.WithSchema(schema)).Close(); err != nil {
		return "", fmt.Errorf("encode the schema: %w", err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// Decode decodes the result of Encode.
func Decode(text string) (*arrow.Schema, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("decode the schema: %w", err)
	}
	r, err := ipc.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("decode the schema: %w", err)
	}
	defer r.Release()
	return r.Schema(), nil
}
