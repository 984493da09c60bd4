package schema

import (
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

// Caster converts batches with one schema to the columns of a table. It matches columns by name, fills missing columns
// with default values or nulls, and widens numbers as Iceberg allows.
type Caster struct {
	From *arrow.Schema // schema of the batches
	To   *arrow.Schema // stored types of the table

	stored        *arrow.Schema // From's columns, with the types that tables store
	sourceIndices []int         // for each column of To, its index in stored, or -1 if missing
	defaults      []arrow.Array // for each column of To, an array of length 1 that fills missing columns; nil means null
	// for each column of To, a logical type that must represent its values exactly; nil means no check
	exactTypes []arrow.DataType
	// for each column of To, the type that says which nested fields can be null; nil allows all nulls
	nullTypes []arrow.DataType

	migrate        func(arrow.RecordBatch) (arrow.RecordBatch, error) // if not nil, applied to each batch first
	migratedSchema *arrow.Schema                                      // schema of migrate's results
}

// NewCaster returns a Caster from a schema to stored types. defaults has a default value for each column of to (see
// [Defaults]), or is nil. If NewCaster fails, the error is an [Error].
func NewCaster(from, to *arrow.Schema, defaults []arrow.Array) (*Caster, error) {
	stored, err := Stored(from)
	if err != nil {
		return nil, err
	}
	c := &Caster{From: from, To: to, stored: stored, sourceIndices: make([]int, to.NumFields()), nullTypes: make([]arrow.DataType, to.NumFields()), defaults: make([]arrow.Array, to.NumFields())}
	for _, f := range stored.Fields() {
		if _, err := ColumnIndex(to, f.Name); err != nil {
			return nil, err
		}
	}
	for i, f := range to.Fields() {
		if hasRequired(f.Type) {
			c.nullTypes[i] = f.Type
		}
		indices := stored.FieldIndices(f.Name)
		if len(indices) == 0 && defaults != nil && defaults[i] != nil {
			c.sourceIndices[i], c.defaults[i] = -1, defaults[i]
			continue
		}
		if len(indices) == 0 || f.Nullable && from.Field(indices[0]).Type.ID() == arrow.NULL {
			if !f.Nullable {
				return nil, &Error{f.Name, errors.New("it is missing, but must not be null")}
			}
			c.sourceIndices[i] = -1
			continue
		}
		c.sourceIndices[i] = indices[0]
		if t := stored.Field(indices[0]).Type; !Alike(t, f.Type) && !CanPromote(t, f.Type) {
			return nil, MismatchError(f.Name, from.Field(indices[0]).Type, f.Type, "")
		}
	}
	return c, nil
}

// MismatchError returns the error for rows in which the column has type from, although the table's column has type to.
// reason is appended to the types. The error says how to convert the rows.
func MismatchError(column string, from, to arrow.DataType, reason string) error {
	hint := fmt.Sprintf("convert the column to %s", to)
	rowTimes, ok := from.(*arrow.TimestampType)
	if tableTimes, both := to.(*arrow.TimestampType); ok && both && (rowTimes.TimeZone == "") != (tableTimes.TimeZone == "") {
		hint = "give the times a zone"
		if tableTimes.TimeZone == "" {
			hint = "convert the times to UTC, and remove their zone"
		}
	}
	return Errorf(column, "it has type %s, and the table has %s%s: %s", from, to, reason, hint)
}

// NewPutCaster is like NewCaster, but the Caster also rejects values that the types in logical, which readers see,
// cannot represent exactly.
func NewPutCaster(putSchema, to, logical *arrow.Schema, defaults []arrow.Array) (*Caster, error) {
	c, err := NewCaster(putSchema, to, defaults)
	if err != nil {
		return nil, err
	}
	c.exactTypes = make([]arrow.DataType, to.NumFields())
	plainPut, fields := WithoutEncodings(putSchema), c.stored.Fields()
	for i, f := range logical.Fields() {
		if hasRequired(f.Type) {
			c.nullTypes[i] = f.Type
		}
		index := c.sourceIndices[i]
		if index < 0 {
			continue
		}
		if t := plainPut.Field(index).Type; !Alike(t, f.Type) && !CanWiden(t, f.Type) && !arrow.IsBaseBinary(to.Field(i).Type.ID()) {
			c.exactTypes[i] = f.Type
			fields[index].Type = Restore(fields[index].Type, f.Type, IsDuration)
		}
	}
	c.stored = arrow.NewSchema(fields, nil)
	return c, nil
}

// NewColumnsCaster returns a Caster from a table's rows, in logical types, to new columns. sourceIndices has, for each
// new column, its old index, or -1 if the column is added.
func NewColumnsCaster(logical, stored, to *arrow.Schema, sourceIndices []int) *Caster {
	return &Caster{From: logical, To: to, stored: stored, sourceIndices: sourceIndices}
}

// Missing returns the names of the table's columns that the batches lack.
func (c *Caster) Missing() (names []string) {
	for i, index := range c.sourceIndices {
		if name := c.To.Field(i).Name; index < 0 && !c.From.HasField(name) {
			names = append(names, name)
		}
	}
	return names
}

// WithMigration returns a copy of c that accepts batches with the schema from. It first calls migrate to convert each
// batch to the schema that c accepts.
func (c *Caster) WithMigration(from *arrow.Schema, migrate func(arrow.RecordBatch) (arrow.RecordBatch, error)) *Caster {
	copied := *c
	copied.From, copied.migrate, copied.migratedSchema = from, migrate, c.From
	return &copied
}

// KeepsRows reports whether Cast returns one row for each row of a batch, in the same order.
func (c *Caster) KeepsRows() bool { return c.migrate == nil }

// CanPromote reports whether a stored column's type can change, either by Iceberg's type promotion or from integers to
// float64.
func CanPromote(from, to arrow.DataType) bool {
	return CanWiden(from, to) || from.ID() == arrow.DECIMAL128 && arrow.TypeEqual(from, to)
}

// Cast converts a batch to the stored types. The caller must release the result.
func (c *Caster) Cast(batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	if c.migrate != nil {
		result, err := c.migrate(batch)
		if err != nil {
			return nil, err
		}
		if result != batch {
			defer result.Release()
		}
		batch = result
		if !batch.Schema().Equal(c.migratedSchema) {
			return nil, fmt.Errorf("the migration function returned columns %v instead of %v", batch.Schema(), c.migratedSchema)
		}
	}
	if int(batch.NumCols()) != c.stored.NumFields() {
		return nil, fmt.Errorf("a batch has %d columns, but its schema has %d", batch.NumCols(), c.stored.NumFields())
	}
	for i, a := range batch.Columns() {
		err := CheckArray(a)
		if n := int64(a.Len()); n != batch.NumRows() {
			err = fmt.Errorf("the column has %d values in a batch of %d rows", n, batch.NumRows())
		}
		if err != nil {
			return nil, &Error{batch.ColumnName(i), err}
		}
	}
	return take.NewBatch(c.To, batch.NumRows(), func(i int) (arrow.Array, error) { return c.column(batch, i) })
}

// column returns a batch's values for column i of the table. If the batch lacks the column, these are default values or
// nulls.
func (c *Caster) column(batch arrow.RecordBatch, i int) (arrow.Array, error) {
	f, index := c.To.Field(i), c.sourceIndices[i]
	if index < 0 && c.defaults != nil && c.defaults[i] != nil {
		return take.Rows(c.defaults[i], make([]int, batch.NumRows()))
	}
	if index < 0 {
		return array.MakeArrayOfNull(allocator, f.Type, int(batch.NumRows())), nil
	}
	converted, err := ConvertArray(batch.Column(index), c.stored.Field(index).Type)
	if err != nil {
		return nil, &Error{f.Name, err}
	}
	defer converted.Release()
	if !f.Nullable && converted.NullN() > 0 {
		return nil, &Error{f.Name, errors.New("the column contains a null, which the table does not allow")}
	}
	// The array now has a type that tables store (see StoredType), or contains durations, which tables store as int64.
	// The table's type is the same or a wider number type (see CanPromote), so this conversion only widens numbers.
	a, err := ConvertArray(converted, f.Type)
	if err != nil {
		return nil, &Error{f.Name, err}
	}
	if c.nullTypes != nil && c.nullTypes[i] != nil {
		err = checkRequired(f.Name, a, c.nullTypes[i])
	}
	if err == nil && c.exactTypes != nil && c.exactTypes[i] != nil {
		err = checkExact(f.Name, a, c.exactTypes[i])
	}
	if err != nil {
		a.Release()
		return nil, err
	}
	return a, nil
}

// checkExact returns an error unless typ can represent all values of a stored column exactly.
func checkExact(column string, a arrow.Array, typ arrow.DataType) error {
	converted, err := convertExactly(a, typ)
	if err != nil {
		return &Error{column, fmt.Errorf("the column contains a value that the table's type cannot represent: %w", err)}
	}
	converted.Release()
	return nil
}

// convertExactly converts an array to typ. It returns an error unless typ can represent all values exactly.
func convertExactly(a arrow.Array, typ arrow.DataType) (arrow.Array, error) {
	converted, err := ConvertArray(a, typ)
	if err != nil {
		return nil, err
	}
	restored, err := ConvertArray(converted, a.DataType())
	if err == nil {
		defer restored.Release()
		if !array.ApproxEqual(a, restored, array.WithAbsTolerance(0), array.WithNaNsEqual(true)) {
			err = fmt.Errorf("cannot convert to %s: the value would change", typ)
		}
	}
	if err != nil {
		converted.Release()
		return nil, err
	}
	return converted, nil
}

// FromSQL returns the schema of a query's rows after [CastSQL]: columns that belong to a table have the table's types,
// some of which SQL lacks.
func FromSQL(result, columns *arrow.Schema) *arrow.Schema {
	fields := result.Fields()
	for i, f := range fields {
		if indices := columns.FieldIndices(f.Name); len(indices) == 1 && columns.Field(indices[0]).Type.ID() != arrow.NULL {
			fields[i].Type = columns.Field(indices[0]).Type
		}
	}
	return arrow.NewSchema(fields, nil)
}

// CastSQL converts a query's rows to the given schema, or returns an [Error] if a value does not fit.
func CastSQL(batch arrow.RecordBatch, to *arrow.Schema) (arrow.RecordBatch, error) {
	return take.NewBatch(to, batch.NumRows(), func(i int) (arrow.Array, error) {
		a, f := batch.Column(i), to.Field(i)
		if arrow.TypeEqual(a.DataType(), f.Type) {
			a.Retain()
			return a, nil
		}
		converted, err := convertExactly(a, f.Type)
		if err != nil {
			return nil, &Error{f.Name, err}
		}
		return converted, nil
	})
}

// CastStored converts a batch that was stored with an older schema to the given schema. initial is [Defaults.Initial]
// or nil. The caller must release the result.
func CastStored(batch arrow.RecordBatch, to *arrow.Schema, initial []arrow.Array) (arrow.RecordBatch, error) {
	fields, columns := batch.Schema().Fields(), slices.Clone(batch.Columns())
	for i, a := range columns {
		// Nulls are valid in every type, and the column's type may have changed.
		if a.Len() > 0 && a.NullN() == a.Len() {
			fields[i].Type, columns[i] = arrow.Null, array.NewNull(a.Len())
		}
	}
	batch = array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, batch.NumRows())
	defer batch.Release()
	c, err := NewCaster(batch.Schema(), to, initial)
	if err != nil {
		return nil, err
	}
	c.nullTypes = nil // The rows were checked when they were put.
	return c.Cast(batch)
}
