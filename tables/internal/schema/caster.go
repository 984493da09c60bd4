package schema

import (
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Caster converts batches of one schema to the columns of a table. Columns are matched by name, missing columns
// are null, and numbers are widened as Iceberg allows.
type Caster struct {
	From *arrow.Schema // the schema of the batches
	To   *arrow.Schema // the table's stored types

	stored *arrow.Schema    // From in stored types
	places []int            // for each column of To, its index in stored, or -1
	narrow []arrow.DataType // for each column of To, its logical type if values may not fit it, or nil
	nulls  []arrow.DataType // for each column of To, a type whose fields say what may be null; nil allows nulls everywhere

	before       func(arrow.RecordBatch) (arrow.RecordBatch, error) // applied first, if not nil
	beforeSchema *arrow.Schema                                      // the schema of before's result
}

// NewCaster returns a Caster between two schemas. The second must have stored types. The error is an [Error].
func NewCaster(from, to *arrow.Schema) (*Caster, error) {
	stored, err := Stored(from)
	if err != nil {
		return nil, err
	}
	c := &Caster{From: from, To: to, stored: stored, places: make([]int, to.NumFields()), nulls: make([]arrow.DataType, to.NumFields())}
	for _, f := range stored.Fields() {
		if _, err := Place(to, f.Name); err != nil {
			return nil, err
		}
	}
	for i, f := range to.Fields() {
		if hasRequired(f.Type) {
			c.nulls[i] = f.Type
		}
		at := stored.FieldIndices(f.Name)
		if len(at) == 0 || f.Nullable && from.Field(at[0]).Type.ID() == arrow.NULL {
			if !f.Nullable {
				return nil, &Error{f.Name, errors.New("it is missing, and may not be null")}
			}
			c.places[i] = -1
			continue
		}
		c.places[i] = at[0]
		if t := stored.Field(at[0]).Type; !Alike(t, f.Type) && !Promotes(t, f.Type) {
			return nil, &Error{f.Name, fmt.Errorf("it has type %s, and the table has %s", from.Field(at[0]).Type, f.Type)}
		}
	}
	return c, nil
}

// NewPutCaster is like NewCaster, for puts. The Caster refuses values that do not fit the logical types, which
// readers get.
func NewPutCaster(put, to, logical *arrow.Schema) (*Caster, error) {
	c, err := NewCaster(put, to)
	if err != nil {
		return nil, err
	}
	c.narrow = make([]arrow.DataType, to.NumFields())
	plain, fields := Plain(put), c.stored.Fields()
	for i, f := range logical.Fields() {
		if hasRequired(f.Type) {
			c.nulls[i] = f.Type
		}
		at := c.places[i]
		if at < 0 {
			continue
		}
		if t := plain.Field(at).Type; !Alike(t, f.Type) && !Widens(t, f.Type) && !arrow.IsBaseBinary(to.Field(i).Type.ID()) {
			c.narrow[i] = f.Type
			fields[at].Type = Restore(fields[at].Type, f.Type, IsDuration)
		}
	}
	c.stored = arrow.NewSchema(fields, nil)
	return c, nil
}

// NewColumnsCaster returns a Caster from a table's rows, in logical types, to new columns. places contains the
// old index of each new column, or -1.
func NewColumnsCaster(logical, stored, to *arrow.Schema, places []int) *Caster {
	return &Caster{From: logical, To: to, stored: stored, places: places}
}

// Missing returns the columns that the rows lack.
func (c *Caster) Missing() (names []string) {
	for i, at := range c.places {
		if name := c.To.Field(i).Name; at < 0 && !c.From.HasField(name) {
			names = append(names, name)
		}
	}
	return names
}

// After returns a Caster for batches of another schema, which before converts to c's schema.
func (c *Caster) After(from *arrow.Schema, before func(arrow.RecordBatch) (arrow.RecordBatch, error)) *Caster {
	after := *c
	after.From, after.before, after.beforeSchema = from, before, c.From
	return &after
}

// Promotes reports whether a stored column may change its type: by Iceberg's type promotion, or
// from integers to float64.
func Promotes(from, to arrow.DataType) bool {
	switch from.ID() {
	case arrow.INT32:
		return to.ID() == arrow.INT64 || to.ID() == arrow.FLOAT64
	case arrow.INT64:
		return to.ID() == arrow.FLOAT64
	case arrow.FLOAT32:
		return to.ID() == arrow.FLOAT64
	case arrow.DECIMAL128:
		f := from.(*arrow.Decimal128Type)
		t, ok := to.(*arrow.Decimal128Type)
		return ok && f.Scale == t.Scale && f.Precision <= t.Precision
	}
	return false
}

// Cast converts a batch to the stored types. The caller releases the result.
func (c *Caster) Cast(batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	if c.before != nil {
		result, err := c.before(batch)
		if err != nil {
			return nil, err
		}
		if result != batch {
			defer result.Release()
		}
		if batch = result; !batch.Schema().Equal(c.beforeSchema) {
			return nil, fmt.Errorf("a migration returned columns %v after %v", batch.Schema(), c.beforeSchema)
		}
	}
	if int(batch.NumCols()) != c.stored.NumFields() {
		return nil, fmt.Errorf("a batch of %d columns for a schema of %d", batch.NumCols(), c.stored.NumFields())
	}
	for i, a := range batch.Columns() {
		err := CheckArray(a)
		if n := int64(a.Len()); n != batch.NumRows() {
			err = fmt.Errorf("it has %d values in a batch of %d rows", n, batch.NumRows())
		}
		if err != nil {
			return nil, &Error{batch.ColumnName(i), err}
		}
	}
	columns := make([]arrow.Array, len(c.places))
	defer releaseAll(columns)
	for i := range columns {
		var err error
		if columns[i], err = c.column(batch, i); err != nil {
			return nil, err
		}
	}
	return array.NewRecordBatch(c.To, columns, batch.NumRows()), nil
}

// column returns column i of the table from a batch.
func (c *Caster) column(batch arrow.RecordBatch, i int) (arrow.Array, error) {
	f, at := c.To.Field(i), c.places[i]
	if at < 0 {
		return array.MakeArrayOfNull(heap, f.Type, int(batch.NumRows())), nil
	}
	stored, err := ConvertArray(batch.Column(at), c.stored.Field(at).Type)
	if err != nil {
		return nil, &Error{f.Name, err}
	}
	defer stored.Release()
	if !f.Nullable && stored.NullN() > 0 {
		return nil, &Error{f.Name, errors.New("it has a null, and the table's column may have none")}
	}
	// The column has a stored type; if it is widened, it contains numbers.
	a, err := ConvertArray(stored, f.Type)
	if err != nil {
		return nil, &Error{f.Name, err}
	}
	if c.nulls != nil && c.nulls[i] != nil {
		err = checkRequired(f.Name, a, c.nulls[i])
	}
	if err == nil && c.narrow != nil && c.narrow[i] != nil {
		err = checkExact(f.Name, a, c.narrow[i])
	}
	if err != nil {
		a.Release()
		return nil, err
	}
	return a, nil
}

// checkExact returns an error if a type cannot represent the values of a stored column exactly.
func checkExact(column string, a arrow.Array, typ arrow.DataType) error {
	narrow, err := ConvertArray(a, typ)
	if err == nil {
		defer narrow.Release()
		var restored arrow.Array
		if restored, err = ConvertArray(narrow, a.DataType()); err == nil {
			defer restored.Release()
			if !array.ApproxEqual(a, restored, array.WithAbsTolerance(0), array.WithNaNsEqual(true)) {
				err = fmt.Errorf("as %s: the value would change", typ)
			}
		}
	}
	if err != nil {
		return &Error{column, fmt.Errorf("it has a value that the table's type does not hold: %w", err)}
	}
	return nil
}

func releaseAll(columns []arrow.Array) {
	for _, a := range columns {
		if a != nil {
			a.Release()
		}
	}
}

// CastStored converts a batch that was stored under an older schema to a newer one. The caller releases the
// result.
func CastStored(batch arrow.RecordBatch, to *arrow.Schema) (arrow.RecordBatch, error) {
	fields, columns := batch.Schema().Fields(), slices.Clone(batch.Columns())
	for i, a := range columns {
		if a.Len() > 0 && a.NullN() == a.Len() { // nulls fit all types, and the column's type may have changed
			fields[i].Type, columns[i] = arrow.Null, array.NewNull(a.Len())
		}
	}
	batch = array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, batch.NumRows())
	defer batch.Release()
	c, err := NewCaster(batch.Schema(), to)
	if err != nil {
		return nil, err
	}
	c.nulls = nil // see Relaxed
	return c.Cast(batch)
}
