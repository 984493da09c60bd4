package transform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// Combine puts the rows of several tables into one table. A union has the rows of all tables, one table after another.
// A join has a row for every combination of rows, one from each table, whose values in the columns On are equal.
func Combine(ctx context.Context, s *tables.Store, o *CombineOptions) (result Result, err error) {
	o = cmp.Or(o, new(CombineOptions))
	defer func() { err = opError("combine", o.Target, err) }()
	if len(o.Sources) < 2 {
		return Result{}, &tables.ArgumentError{Err: errors.New("at least two sources are needed")}
	}
	c := &combination{}
	for _, from := range o.Sources {
		table := s.Bucket(from.Bucket).Table(from.Name)
		schema, rows, err := inspect(ctx, table)
		if err != nil {
			return Result{}, err
		}
		c.sources = append(c.sources, source{from, schema})
		result.SourceRows += rows
	}
	var sql string
	switch {
	case o.How == "union" && len(o.On) == 0:
		sql, err = c.union()
	case o.How == "union":
		err = errors.New("a union must not name columns to join on")
	case o.How == "join" && len(o.On) > 0:
		sql, err = c.join(o.On)
	case o.How == "join":
		err = errors.New("a join needs the columns to join on")
	default:
		err = fmt.Errorf("unknown way to combine %.40q: use union or join", o.How)
	}
	if err != nil {
		return Result{}, err
	}
	rows, err := s.Query(ctx, sql, nil)
	if err != nil {
		return Result{}, err
	}
	r := castReader(rows, arrow.NewSchema(c.fields, nil))
	defer r.Release()
	result.TargetRows, err = put(ctx, s, r, o.Target, o.Mode, nil)
	return result, err
}

type combination struct {
	sources []source
	fields  []arrow.Field // the result's columns
}

type source struct {
	TableName
	schema *arrow.Schema
}

// union returns a SELECT statement with the columns of all sources. A column that a source lacks is null.
func (c *combination) union() (string, error) {
	for _, s := range c.sources {
		for _, f := range s.schema.Fields() {
			index := slices.IndexFunc(c.fields, func(g arrow.Field) bool { return g.Name == f.Name })
			if index < 0 {
				c.fields = append(c.fields, arrow.Field{Name: f.Name, Type: f.Type, Nullable: true})
				continue
			}
			t, err := commonType(f, c.fields[index].Type)
			if err != nil {
				return "", err
			}
			c.fields[index].Type = t
		}
	}
	var parts []string
	for _, s := range c.sources {
		var columns []string
		for _, f := range c.fields {
			x := "NULL"
			if index := s.schema.FieldIndices(f.Name); len(index) > 0 {
				x = castTo(sqltext.Name(f.Name), s.schema.Field(index[0]).Type, f)
			}
			columns = append(columns, x+" AS "+sqltext.Name(f.Name))
		}
		parts = append(parts, "SELECT "+strings.Join(columns, ", ")+" FROM "+s.sql())
	}
	return strings.Join(parts, "\nUNION ALL "), nil
}

// join returns a SELECT statement with the join columns, followed by the other columns of each source. If a column name
// repeats, the table's name is appended to it.
func (c *combination) join(on []string) (string, error) {
	var columns []string
	keys := map[string]arrow.DataType{}
	for i, s := range c.sources {
		for _, name := range on {
			f, err := field(s.schema, name)
			if err != nil {
				return "", fmt.Errorf("table %q: %w", s.Name, err)
			}
			if i == 0 {
				c.fields = append(c.fields, arrow.Field{Name: name, Type: f.Type, Nullable: true})
				columns = append(columns, "s0."+sqltext.Name(name))
				keys[name] = f.Type
				continue
			}
			t, err := commonType(f, keys[name])
			if err != nil {
				return "", err
			}
			keys[name] = t
		}
	}
	from := c.sources[0].sql() + " AS s0"
	for i, s := range c.sources[1:] {
		var equal []string
		for _, name := range on {
			equal = append(equal, c.keySQL(0, name)+" = "+c.keySQL(i+1, name))
		}
		from += fmt.Sprintf(" JOIN %s AS s%d ON %s", s.sql(), i+1, strings.Join(equal, " AND "))
	}
	for i, s := range c.sources {
		for _, f := range s.schema.Fields() {
			if slices.Contains(on, f.Name) {
				continue
			}
			hasName := func(g arrow.Field) bool { return g.Name == f.Name }
			columns = append(columns, fmt.Sprintf("s%d.%s", i, sqltext.Name(f.Name)))
			if slices.ContainsFunc(c.fields, hasName) {
				f.Name += "_" + s.Name
				if slices.ContainsFunc(c.fields, hasName) {
					return "", &tables.SchemaError{Column: f.Name, Err: errors.New("the result would have two columns with this name")}
				}
			}
			c.fields = append(c.fields, arrow.Field{Name: f.Name, Type: f.Type, Nullable: true})
		}
	}
	for i := range columns {
		// Number the columns, because SQL does not allow names that differ only in case.
		columns[i] += fmt.Sprintf(" AS c%d", i)
	}
	return "SELECT " + strings.Join(columns, ", ") + " FROM " + from, nil
}

// keySQL returns the SQL for a join column of source i that can be compared with the other sources' columns. If some of
// these are integers and others floats, all are compared as integers, because different integers may become equal as
// floats. A float that is not an integer then matches nothing.
func (c *combination) keySQL(i int, name string) string {
	typeOf := func(s source) arrow.DataType { return s.schema.Field(s.schema.FieldIndices(name)[0]).Type }
	t := typeOf(c.sources[i])
	x := fmt.Sprintf("s%d.%s", i, sqltext.Name(name))
	switch {
	case !slices.ContainsFunc(c.sources, func(s source) bool { return isInteger(typeOf(s)) }):
		return x
	case arrowtype.KindOf(t) == arrowtype.Float:
		return fmt.Sprintf("CASE WHEN %[1]s = trunc(%[1]s) THEN TRY_CAST(%[1]s AS HUGEINT) END", x+"::DOUBLE")
	case !slices.ContainsFunc(c.sources, func(s source) bool { return !arrow.TypeEqual(typeOf(s), t) }):
		return x
	}
	return x + "::HUGEINT"
}

// castTo returns the SQL that casts x, a column of type t, to the type of the result's column.
func castTo(x string, t arrow.DataType, to arrow.Field) string {
	toFloat := arrowtype.Of(to.Type).Native == reflect.Float64
	switch {
	case arrow.TypeEqual(t, to.Type):
	case arrow.TypeEqual(to.Type, wideInteger):
		return x + "::DECIMAL(20, 0)"
	case toFloat && isInteger(t):
		message := sqltext.Text(fmt.Sprintf("column %q: float64 cannot represent the integer ", to.Name))
		return fmt.Sprintf("CASE WHEN %[1]s IS NULL OR %[1]s::DOUBLE::HUGEINT = %[1]s::HUGEINT THEN %[1]s::DOUBLE ELSE error(%[2]s || %[1]s) END", x, message)
	case toFloat:
		return x + "::DOUBLE"
	}
	return x
}

var wideInteger = &arrow.Decimal128Type{Precision: 20} // for all values of int64 and uint64

func isInteger(t arrow.DataType) bool {
	return arrowtype.KindOf(t) == arrowtype.Integer || arrow.TypeEqual(t, wideInteger)
}

// commonType returns a type that can hold the values of both columns. For an integer column and a float column, it is
// float64; castTo's SQL then fails at an integer that float64 cannot represent exactly.
func commonType(f arrow.Field, other arrow.DataType) (arrow.DataType, error) {
	a, b := f.Type, other
	kindA, kindB := arrowtype.KindOf(a), arrowtype.KindOf(b)
	ta, isTime := a.(*arrow.TimestampType)
	tb, areTimes := b.(*arrow.TimestampType)
	switch {
	case schema.Alike(a, b), kindA == arrowtype.Null:
		return b, nil
	case kindB == arrowtype.Null:
		return a, nil
	case kindA == arrowtype.Text && kindB == kindA:
		return arrow.BinaryTypes.String, nil
	case isTime && areTimes && ta.TimeZone == tb.TimeZone:
		return &arrow.TimestampType{Unit: max(ta.Unit, tb.Unit), TimeZone: ta.TimeZone}, nil
	case kindA == arrowtype.Integer && kindB == kindA && arrowtype.Of(a).Native != reflect.Uint64 && arrowtype.Of(b).Native != reflect.Uint64:
		return int64Type, nil
	case isInteger(a) && isInteger(b):
		return wideInteger, nil
	case (isInteger(a) || kindA == arrowtype.Float) && (isInteger(b) || kindB == arrowtype.Float):
		return float64Type, nil
	}
	return nil, &tables.SchemaError{Column: f.Name, Err: fmt.Errorf("it has type %s in one table and %s in another", b, a)}
}
