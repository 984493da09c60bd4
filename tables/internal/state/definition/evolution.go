package definition

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// Evolution says which column changes a table allows.
type Evolution string

// Values of Evolution. With the default, "", a put cannot change the columns, except that a column of nulls gets the
// put's type. Columns missing from a put are null, and narrower numbers are widened to the table's type. Puts with
// other differences are rejected. The operation Evolve may make any change.
const (
	Strict     Evolution = "strict"     // puts must have exactly the table's columns and types
	AddOnly    Evolution = "add_only"   // like Strict, but a put may add columns
	Compatible Evolution = "compatible" // like AddOnly, but number types may differ: the narrower type, in the put or the table, is widened
	Flexible   Evolution = "flexible"   // like Compatible, but columns missing from a put are null, and Evolve may rename and drop columns
)

// Check returns an error for an unknown evolution.
func (e Evolution) Check() error {
	if err := checkKnown("evolution", e, Strict, AddOnly, Compatible, Flexible); err != nil {
		return &ArgumentError{err}
	}
	return nil
}

// ColumnOp is a kind of column change.
type ColumnOp string

// The column changes. A table that allows one change also allows the changes listed before it.
const (
	AddColumn    ColumnOp = "add"
	WidenColumn  ColumnOp = "widen" // gives an integer or float a larger type, or a column of nulls any type
	RenameColumn ColumnOp = "rename"
	DropColumn   ColumnOp = "drop"
)

// Change is a column change that a put requires.
type Change struct {
	Op    ColumnOp // AddColumn or WidenColumn
	Field arrow.Field
}

// ChangesFor returns the changes that a table with the given columns needs before it accepts rows with the schema
// putSchema. If e does not allow the changes, ChangesFor returns a schema.Error.
func (e Evolution) ChangesFor(putSchema, columns *arrow.Schema) (changes []Change, err error) {
	putSchema = schema.WithoutEncodings(putSchema)
	mayAdd := e == AddOnly || e == Compatible || e == Flexible
	mayWiden := e == Compatible || e == Flexible
	for _, f := range putSchema.Fields() {
		indices := columns.FieldIndices(f.Name)
		if len(indices) == 0 {
			if !mayAdd {
				return nil, schema.Errorf(f.Name, "it has type %s, but the table has no such column; its columns are %q%s: "+
					"leave it out, or set the table's evolution to %q, which lets puts add columns", f.Type, schema.Names(columns), e.reason(), AddOnly)
			}
			changes = append(changes, Change{AddColumn, f})
			continue
		}
		if err := schema.CheckValues(f, columns.Field(indices[0])); err != nil {
			return nil, err
		}
		t := columns.Field(indices[0]).Type
		switch {
		case schema.Alike(f.Type, t), (e == "" || mayWiden) && arrowtype.KindOf(f.Type) == arrowtype.Null:
		case (e == "" || mayWiden) && arrowtype.KindOf(t) == arrowtype.Null:
			changes = append(changes, Change{WidenColumn, f})
		case (e == "" || mayWiden) && schema.CanPut(f.Type, t), mayWiden && schema.CanWiden(f.Type, t):
			if mayWiden && !schema.CanWiden(f.Type, t) && schema.CanWiden(t, f.Type) {
				changes = append(changes, Change{WidenColumn, f})
			}
		case mayWiden && schema.CanWiden(t, f.Type):
			changes = append(changes, Change{WidenColumn, f})
		default:
			err := schema.MismatchError(f.Name, f.Type, t, e.reason())
			if schema.CanWiden(t, f.Type) {
				err = schema.Errorf(f.Name, "it has type %s, and the table has %s%s: convert the rows, or set the table's evolution to %q, which lets puts widen columns", f.Type, t, e.reason(), Compatible)
			}
			return nil, err
		}
	}
	for _, f := range columns.Fields() {
		if e != "" && e != Flexible && !putSchema.HasField(f.Name) {
			return nil, schema.Errorf(f.Name, "it is missing, but the table has it, as %s%s", f.Type, e.reason())
		}
	}
	return changes, nil
}

func (e Evolution) reason() string {
	if e == "" {
		return ""
	}
	return "; the table's evolution is " + string(e)
}
