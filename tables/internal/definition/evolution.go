package definition

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/schema"
)

// Evolution says which changes of its columns a table takes.
type Evolution string

// The kinds of evolution. With "", the default, no put changes the columns: those
// that it lacks are null, narrower numbers are widened to the table's, a column of nulls
// takes the type that comes, anything else is refused; Evolve may do all.
const (
	Strict     Evolution = "strict"     // puts have exactly the table's columns, in its types
	AddOnly    Evolution = "add_only"   // as Strict, but a put may bring new columns
	Compatible Evolution = "compatible" // as AddOnly, and numbers are widened, in the put or in the table
	Flexible   Evolution = "flexible"   // as Compatible, columns that a put lacks are null, and Evolve may rename and drop
)

var evolutions = []Evolution{Strict, AddOnly, Compatible, Flexible}

// Check refuses kinds that there are not.
func (e Evolution) Check() error {
	if e != "" && !slices.Contains(evolutions, e) {
		return &ArgumentError{fmt.Errorf("there is no evolution %q: there are %q", e, evolutions)}
	}
	return nil
}

// ColumnOp is what a change does to a column.
type ColumnOp string

// The changes of a column, each of which a table allows that allows the next one.
const (
	AddColumn    ColumnOp = "add"
	WidenColumn  ColumnOp = "widen" // an integer or a float gets a larger type, nulls any
	RenameColumn ColumnOp = "rename"
	DropColumn   ColumnOp = "drop"
)

// Change is a change of a table's columns that a put asks for.
type Change struct {
	Op    ColumnOp // AddColumn or WidenColumn
	Field arrow.Field
}

// Fits returns the changes that a table needs to take rows of a schema that is put,
// or a schema.Error that says why it takes none.
func (e Evolution) Fits(put, has *arrow.Schema) (changes []Change, err error) {
	put = schema.Plain(put)
	adds := e == AddOnly || e == Compatible || e == Flexible
	widens := e == Compatible || e == Flexible
	for _, f := range put.Fields() {
		at := has.FieldIndices(f.Name)
		if len(at) == 0 {
			if !adds {
				return nil, schema.Errorf(f.Name, "it has type %s, and the table has no such column, only %q", f.Type, schema.Names(has))
			}
			changes = append(changes, Change{AddColumn, f})
			continue
		}
		if err := schema.CheckValues(f, has.Field(at[0])); err != nil {
			return nil, err
		}
		switch t := has.Field(at[0]).Type; {
		case schema.Alike(f.Type, t), (e == "" || widens) && f.Type.ID() == arrow.NULL:
		case (e == "" || widens) && t.ID() == arrow.NULL:
			changes = append(changes, Change{WidenColumn, f})
		case (e == "" || widens) && storedAlike(f.Type, t), widens && schema.Widens(f.Type, t):
			if widens && !schema.Widens(f.Type, t) && schema.Widens(t, f.Type) {
				changes = append(changes, Change{WidenColumn, f})
			}
		case widens && schema.Widens(t, f.Type):
			changes = append(changes, Change{WidenColumn, f})
		default:
			return nil, schema.Errorf(f.Name, "it has type %s, and the table has %s%s", f.Type, t, e.because())
		}
	}
	for _, f := range has.Fields() {
		if e != "" && e != Flexible && !put.HasField(f.Name) {
			return nil, schema.Errorf(f.Name, "it is missing, and the table has it, as %s%s", f.Type, e.because())
		}
	}
	return changes, nil
}

func (e Evolution) because() string {
	if e == "" {
		return ""
	}
	return "; its evolution is " + string(e)
}

// storedAlike reports whether values of one type can be stored in a column of another
// as far as the types that are stored tell.
func storedAlike(from, to arrow.DataType) bool {
	a, err := schema.StoredType(from)
	b, err2 := schema.StoredType(to)
	return err == nil && err2 == nil && (schema.Alike(a, b) || schema.Promotes(a, b) && !arrow.IsFloating(b.ID()) || a.ID() == arrow.FLOAT32 && schema.Promotes(a, b))
}
