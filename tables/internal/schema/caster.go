package schema

import (
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Caster makes batches of one schema fit the columns of a table: they are found by name,
// those that are missing are null, and numbers are widened as Iceberg allows.
type Caster struct {
	From *arrow.Schema // of the batches
	To   *arrow.Schema // the types that the table stores

	stored *arrow.Schema    // From in the types that are stored
	places []int            // for each column of To, that of stored; -1: none
	narrow []arrow.DataType // for each column of To the type that readers get, if values may not fit it; nil: none

	before func(arrow.RecordBatch) (arrow.RecordBatch, error) // nil: nothing
	made   *arrow.Schema                                      // of what before returns
}

// NewCaster returns the Caster between two schemas, the second of which is stored. Its
// error is an [Error].
func NewCaster(from, to *arrow.Schema) (*Caster, error) {
	stored, err := Stored(from)
	if err != nil {
		return nil, err
	}
	c := &Caster{From: from, To: to, stored: stored, places: make([]int, to.NumFields())}
	for _, f := range stored.Fields() {
		if _, err := Place(to, f.Name); err != nil {
			return nil, err
		}
	}
	for i, f := range to.Fields() {
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

// NewPutCaster is NewCaster for rows that are put. It refuses values that the logical
// types, those that readers get, do not hold.
func NewPutCaster(put, to, logical *arrow.Schema) (*Caster, error) {
	c, err := NewCaster(put, to)
	if err != nil {
		return nil, err
	}
	c.narrow = make([]arrow.DataType, to.NumFields())
	plain := Plain(put)
	for i, f := range logical.Fields() {
		if c.places[i] < 0 {
			continue
		}
		if t := plain.Field(c.places[i]).Type; !Alike(t, f.Type) && !Widens(t, f.Type) && !arrow.IsBaseBinary(to.Field(i).Type.ID()) {
			c.narrow[i] = f.Type
		}
	}
	return c, nil
}

// NewColumnsCaster returns the Caster for rows of a table, in its logical types, to the
// columns that it gets: places has for each of them the one before, or -1.
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

// After returns a Caster that takes batches of another schema, of which before makes
// those that c takes.
func (c *Caster) After(from *arrow.Schema, before func(arrow.RecordBatch) (arrow.RecordBatch, error)) *Caster {
	after := *c
	after.From, after.before, after.made = from, before, c.From
	return &after
}

// Promotes reports whether a column that is stored may become one of another type: what
// Iceberg's schema evolution promotes, and integers that float64 holds.
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

// Cast returns a batch in the types that are stored. The caller releases it.
func (c *Caster) Cast(batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	if c.before != nil {
		made, err := c.before(batch)
		if err != nil {
			return nil, err
		}
		if made != batch {
			defer made.Release()
		}
		if batch = made; !batch.Schema().Equal(c.made) {
			return nil, fmt.Errorf("a migration returned columns %v after %v", batch.Schema(), c.made)
		}
	}
	if int(batch.NumCols()) != c.stored.NumFields() {
		return nil, fmt.Errorf("a batch of %d columns for a schema of %d", batch.NumCols(), c.stored.NumFields())
	}
	for i, a := range batch.Columns() {
		if err := CheckArray(a); err != nil {
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

// column returns a column of the table, of a batch.
func (c *Caster) column(batch arrow.RecordBatch, i int) (arrow.Array, error) {
	f, at := c.To.Field(i), c.places[i]
	if at < 0 {
		return array.MakeArrayOfNull(heap, f.Type, int(batch.NumRows())), nil
	}
	stored, err := ConvertArray(batch.Column(at), c.stored.Field(at).Type)
	if err != nil {
		return nil, fmt.Errorf("column %q: %w", f.Name, err)
	}
	defer stored.Release()
	if !f.Nullable && stored.NullN() > 0 {
		return nil, &Error{f.Name, errors.New("it has a null, and the table's column may have none")}
	}
	// Alike or not, it is one of the types that are stored: what is widened is a number.
	a, err := ConvertArray(stored, f.Type)
	if err != nil {
		return nil, &Error{f.Name, err}
	}
	if c.narrow != nil && c.narrow[i] != nil {
		back, err := ConvertArray(a, c.narrow[i])
		if err != nil {
			a.Release()
			return nil, &Error{f.Name, fmt.Errorf("it has a value that the table's type does not hold: %w", err)}
		}
		back.Release()
	}
	return a, nil
}

func releaseAll(columns []arrow.Array) {
	for _, a := range columns {
		if a != nil {
			a.Release()
		}
	}
}

// CastStored returns a batch that a table stored under an older schema in the schema that it
// has. The caller releases it.
func CastStored(batch arrow.RecordBatch, to *arrow.Schema) (arrow.RecordBatch, error) {
	fields, columns := batch.Schema().Fields(), slices.Clone(batch.Columns())
	for i, a := range columns {
		if a.Len() > 0 && a.NullN() == a.Len() { // it fits all types: a column of nulls may have another now
			fields[i].Type, columns[i] = arrow.Null, array.NewNull(a.Len())
		}
	}
	batch = array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, batch.NumRows())
	defer batch.Release()
	c, err := NewCaster(batch.Schema(), to)
	if err != nil {
		return nil, err
	}
	return c.Cast(batch)
}
