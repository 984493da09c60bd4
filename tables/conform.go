package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/arrowtypes"
)

// conformer makes batches of one schema fit another: columns are found by name,
// those that are missing are null, and numbers are widened as Iceberg allows.
type conformer struct {
	put    *arrow.Schema // of the batches
	stored *arrow.Schema // the same in the types that are kept
	kept   *arrow.Schema // of the table
	from   []int         // for each column of kept, that of stored; -1: none

	evolution Evolution
	returned  *arrow.Schema    // the types that readers get
	changes   []ColumnChange   // without which the table does not take the rows
	narrow    []arrow.DataType // for each column of kept the type that readers get, if values may not fit it; nil: none

	before func(arrow.RecordBatch) (arrow.RecordBatch, error) // what a migration does first; nil: nothing
	made   *arrow.Schema                                      // of what before returns
	check  *check                                             // the rules; nil: none
}

// putConformer returns what makes rows that are put fit a table, as its evolution
// has it; or one with changes, if the table needs them first.
func putConformer(put, kept, returned *arrow.Schema, e Evolution) (*conformer, error) {
	if _, err := storedSchema(put); err != nil {
		return nil, err
	}
	changes, err := e.fits(put, returned)
	if err != nil {
		return nil, err
	}
	if len(changes) > 0 {
		return &conformer{put: put, kept: kept, evolution: e, returned: returned, changes: changes}, nil
	}
	c, err := newConformer(put, kept)
	if err != nil {
		return nil, err
	}
	c.evolution, c.returned, c.narrow = e, returned, make([]arrow.DataType, kept.NumFields())
	plain := arrowtypes.Plain(put)
	for i, f := range returned.Fields() {
		if c.from[i] < 0 {
			continue
		}
		if t := plain.Field(c.from[i]).Type; !arrowtypes.Alike(t, f.Type) && !arrowtypes.Widens(t, f.Type) && !arrow.IsBaseBinary(kept.Field(i).Type.ID()) {
			c.narrow[i] = f.Type
		}
	}
	return c, nil
}

// newConformer returns what makes batches of a schema fit a table. Its error is
// a SchemaError.
func newConformer(put, kept *arrow.Schema) (*conformer, error) {
	stored, err := storedSchema(put)
	if err != nil {
		return nil, err
	}
	c := &conformer{put: put, stored: stored, kept: kept, from: make([]int, kept.NumFields())}
	for _, f := range stored.Fields() {
		if !kept.HasField(f.Name) {
			return nil, &SchemaError{f.Name, fmt.Errorf("the table has no such column, only %q", names(kept))}
		}
	}
	for i, f := range kept.Fields() {
		at := stored.FieldIndices(f.Name)
		if len(at) == 0 {
			if !f.Nullable {
				return nil, &SchemaError{f.Name, errors.New("it is missing, and may not be null")}
			}
			c.from[i] = -1
			continue
		}
		c.from[i] = at[0]
		if t := stored.Field(at[0]).Type; !arrowtypes.Alike(t, f.Type) && !widens(t, f.Type) {
			return nil, &SchemaError{f.Name, fmt.Errorf("it has type %s, and the table has %s", put.Field(at[0]).Type, f.Type)}
		}
	}
	return c, nil
}

// storedSchema returns the schema that is kept of one that is put.
func storedSchema(put *arrow.Schema) (*arrow.Schema, error) {
	seen := map[string]bool{}
	for _, f := range put.Fields() {
		if seen[f.Name] {
			return nil, &SchemaError{f.Name, errors.New("there are two columns of this name")}
		}
		seen[f.Name] = true
	}
	if put.NumFields() == 0 {
		return nil, errors.New("there are no columns")
	}
	stored, err := arrowtypes.Stored(put)
	return stored, refused(err)
}

// refused makes a SchemaError of a Refused.
func refused(err error) error {
	if r := arrowtypes.Refused(nil); errors.As(err, &r) {
		return &SchemaError{r[0].Name, err}
	}
	return err
}

func names(s *arrow.Schema) []string {
	all := make([]string, s.NumFields())
	for i, f := range s.Fields() {
		all[i] = f.Name
	}
	return all
}

// widens reports whether a column of type from may become one of type to: what
// Iceberg's schema evolution promotes, and integers that float64 holds.
func widens(from, to arrow.DataType) bool {
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

// apply returns a batch in the kept schema. The caller releases it.
func (c *conformer) apply(batch arrow.RecordBatch) (arrow.RecordBatch, error) {
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
	for i, a := range batch.Columns() {
		if err := arrowtypes.CheckTexts(a); err != nil {
			return nil, &SchemaError{batch.ColumnName(i), err}
		}
	}
	stored, err := arrowtypes.Convert(batch, c.stored)
	if err != nil {
		return nil, err
	}
	defer stored.Release()
	columns := make([]arrow.Array, len(c.from))
	defer func() {
		for _, a := range columns {
			if a != nil {
				a.Release()
			}
		}
	}()
	for i, f := range c.kept.Fields() {
		if c.from[i] < 0 {
			columns[i] = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, int(batch.NumRows()))
			continue
		}
		a := stored.Column(c.from[i])
		if !f.Nullable && a.NullN() > 0 {
			return nil, &SchemaError{f.Name, errors.New("it has a null, and the table's column may have none")}
		}
		// Alike or not, it is one of the types that are kept: what is widened is a number.
		if columns[i], err = arrowtypes.ConvertArray(a, f.Type); err != nil {
			return nil, &SchemaError{f.Name, err}
		}
		if c.narrow != nil && c.narrow[i] != nil {
			back, err := arrowtypes.ConvertArray(columns[i], c.narrow[i])
			if err != nil {
				return nil, &SchemaError{f.Name, fmt.Errorf("it has a value that the table's type does not hold: %w", err)}
			}
			back.Release()
		}
	}
	return array.NewRecordBatch(c.kept, columns, batch.NumRows()), nil
}

// rows returns the rows that are in the tail alone, up to an epoch. The caller
// releases them. It wants mu.
func (e *entry) rows(ctx context.Context, meta table.Metadata, upTo int64) ([]arrow.RecordBatch, error) {
	rows, err := e.log.Rows(ctx, e.state.folded, upTo)
	for i := 0; i < len(rows) && err == nil; i++ {
		if rows[i].Schema() != e.state.kept && !rows[i].Schema().Equal(e.state.kept) {
			rows[i], err = carried(meta, rows[i])
		}
	}
	if err != nil {
		release(rows)
		return nil, err
	}
	return rows, nil
}

// carried returns a batch, which it takes over, of an older schema of the table
// under the names that its columns have now, without those that were dropped. A
// batch of no such schema stays as it is.
func carried(meta table.Metadata, batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	for _, sc := range slices.Backward(meta.Schemas()) {
		kept, err := keptSchema(sc)
		if err != nil {
			return batch, err
		}
		if !kept.Equal(batch.Schema()) {
			continue
		}
		var fields []arrow.Field
		var columns []arrow.Array
		for i, f := range sc.Fields() {
			if now, ok := meta.CurrentSchema().FindFieldByID(f.ID); ok {
				field := kept.Field(i)
				field.Name = now.Name
				fields, columns = append(fields, field), append(columns, batch.Column(i))
			}
		}
		if len(fields) == 0 { // all columns were replaced: only the names say what is what
			return batch, nil
		}
		defer batch.Release()
		return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, batch.NumRows()), nil
	}
	return batch, nil
}

// keptSchema returns the types in which a table's columns are kept.
func keptSchema(s *iceberg.Schema) (*arrow.Schema, error) {
	return table.SchemaToArrowSchema(s, nil, false, false)
}

// arrowProperty is the property with the Arrow schema that was put, of a schema
// by its id.
func arrowProperty(schemaID int) string { return fmt.Sprintf("%s%d", arrowProperties, schemaID) }

const arrowProperties = "partd.arrow-schema."

// putSchema returns a table's columns in the types in which they were put.
func putSchema(s *iceberg.Schema, properties iceberg.Properties) (*arrow.Schema, error) {
	kept, err := keptSchema(s)
	if err != nil {
		return nil, err
	}
	text, ok := properties[arrowProperty(s.ID)]
	if !ok { // a schema that somebody else made
		return kept, nil
	}
	put, err := arrowtypes.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("property %s: %w", arrowProperty(s.ID), err)
	}
	return arrowtypes.AsPut(kept, put), nil
}

// returnedSchema returns the types in which readers get a table's columns.
func returnedSchema(s *iceberg.Schema, properties iceberg.Properties) (*arrow.Schema, error) {
	put, err := putSchema(s, properties)
	if err != nil {
		return nil, err
	}
	return arrowtypes.Plain(put), nil
}
