package transform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sqlquote"
)

// Combine puts the rows of several tables into one. A union has all rows of all tables, one
// table after another. A join has a row for every combination of rows, one from each table,
// whose values in the columns On are equal.
func Combine(ctx context.Context, s *tables.Store, o *CombineOptions) (done Result, err error) {
	o = cmp.Or(o, new(CombineOptions))
	defer func() { err = opError("combine", o.Target, err) }()
	if len(o.Sources) < 2 {
		return Result{}, errors.New("there must be two sources or more")
	}
	c := &combining{}
	for _, from := range o.Sources {
		table, err := s.Bucket(from.Bucket).Table(ctx, from.Name)
		if err != nil {
			return Result{}, err
		}
		schema, err := table.Schema(ctx)
		if err != nil {
			return Result{}, err
		}
		if err := exact(schema.Fields()...); err != nil {
			return Result{}, err
		}
		info, err := table.Info(ctx)
		if err != nil {
			return Result{}, err
		}
		c.sources = append(c.sources, source{from, schema})
		done.SourceRows += info.Rows
	}
	var sql string
	switch {
	case o.How == "union" && len(o.On) == 0:
		sql, err = c.union()
	case o.How == "union":
		err = errors.New("a union is on no columns")
	case o.How == "join" && len(o.On) > 0:
		sql, err = c.join(o.On)
	case o.How == "join":
		err = errors.New("on which columns the tables are joined is missing")
	default:
		err = fmt.Errorf("how is union or join, not %.40q", o.How)
	}
	if err != nil {
		return Result{}, err
	}
	rows, err := s.Query(ctx, sql, nil)
	if err != nil {
		return Result{}, err
	}
	r := restored(rows, arrow.NewSchema(c.fields, nil))
	defer r.Release()
	done.TargetRows, err = put(ctx, s, r, o.Target, o.Mode, nil)
	return done, err
}

// combining is a Combine whose result is being made out.
type combining struct {
	sources []source
	fields  []arrow.Field // of the result
}

type source struct {
	TableName
	schema *arrow.Schema
}

// union has the columns of all sources, with nulls where one lacks a column.
func (c *combining) union() (string, error) {
	for _, s := range c.sources {
		for _, f := range s.schema.Fields() {
			at := slices.IndexFunc(c.fields, func(g arrow.Field) bool { return g.Name == f.Name })
			if at < 0 {
				c.fields = append(c.fields, arrow.Field{Name: f.Name, Type: f.Type, Nullable: true})
				continue
			}
			t, err := common(f, c.fields[at].Type)
			if err != nil {
				return "", err
			}
			c.fields[at].Type = t
		}
	}
	var parts []string
	for _, s := range c.sources {
		var columns []string
		for _, f := range c.fields {
			x := "NULL"
			if at := s.schema.FieldIndices(f.Name); len(at) > 0 {
				x = as(sqlquote.Name(f.Name), s.schema.Field(at[0]).Type, f)
			}
			columns = append(columns, x+" AS "+sqlquote.Name(f.Name))
		}
		parts = append(parts, "SELECT "+strings.Join(columns, ", ")+" FROM "+s.sql())
	}
	return strings.Join(parts, "\nUNION ALL "), nil
}

// join has the columns on, then those of each source. One whose name an earlier
// source has gets its table's behind it.
func (c *combining) join(on []string) (string, error) {
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
				columns = append(columns, "s0."+sqlquote.Name(name))
				keys[name] = f.Type
				continue
			}
			t, err := common(f, keys[name])
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
			equal = append(equal, c.key(0, name)+" = "+c.key(i+1, name))
		}
		from += fmt.Sprintf(" JOIN %s AS s%d ON %s", s.sql(), i+1, strings.Join(equal, " AND "))
	}
	for i, s := range c.sources {
		for _, f := range s.schema.Fields() {
			if slices.Contains(on, f.Name) {
				continue
			}
			taken := func(g arrow.Field) bool { return g.Name == f.Name }
			columns = append(columns, fmt.Sprintf("s%d.%s", i, sqlquote.Name(f.Name)))
			if slices.ContainsFunc(c.fields, taken) {
				if f.Name += "_" + s.Name; slices.ContainsFunc(c.fields, taken) {
					return "", &tables.SchemaError{Column: f.Name, Err: errors.New("the result would have two columns of this name")}
				}
			}
			c.fields = append(c.fields, arrow.Field{Name: f.Name, Type: f.Type, Nullable: true})
		}
	}
	for i := range columns {
		columns[i] += fmt.Sprintf(" AS c%d", i) // the names may be equal but for their case
	}
	return "SELECT " + strings.Join(columns, ", ") + " FROM " + from, nil
}

// key is a column that is compared with those of the other sources. Where some have
// integers and others floats, a float is the integer that it is, or equal to none: as a
// float, two integers may be one.
func (c *combining) key(i int, name string) string {
	typeOf := func(s source) arrow.DataType { return s.schema.Field(s.schema.FieldIndices(name)[0]).Type }
	t := typeOf(c.sources[i])
	x := fmt.Sprintf("s%d.%s", i, sqlquote.Name(name))
	switch {
	case !slices.ContainsFunc(c.sources, func(s source) bool { return isWhole(typeOf(s)) }):
		return x
	case arrow.IsFloating(t.ID()):
		return fmt.Sprintf("CASE WHEN %[1]s = trunc(%[1]s) THEN TRY_CAST(%[1]s AS HUGEINT) END", x+"::DOUBLE")
	case !slices.ContainsFunc(c.sources, func(s source) bool { return !arrow.TypeEqual(typeOf(s), t) }):
		return x
	}
	return x + "::HUGEINT"
}

// as is the SQL for a column's values in the type of the result.
func as(x string, t arrow.DataType, to arrow.Field) string {
	switch {
	case arrow.TypeEqual(t, to.Type):
	case arrow.TypeEqual(to.Type, wide):
		return x + "::DECIMAL(20, 0)"
	case to.Type.ID() == arrow.FLOAT64 && isWhole(t):
		message := sqlquote.Text(fmt.Sprintf("column %q: no float64 is the integer ", to.Name))
		return fmt.Sprintf("CASE WHEN %[1]s IS NULL OR %[1]s::DOUBLE::HUGEINT = %[1]s::HUGEINT THEN %[1]s::DOUBLE ELSE error(%[2]s || %[1]s) END", x, message)
	case to.Type.ID() == arrow.FLOAT64:
		return x + "::DOUBLE"
	}
	return x
}

// wide is the type that holds all integers.
var wide = &arrow.Decimal128Type{Precision: 20}

func isWhole(t arrow.DataType) bool { return arrow.IsInteger(t.ID()) || arrow.TypeEqual(t, wide) }

// common is the type that holds a column's values, and those of another type; of
// integers and floats, float64, of which those that it does not hold are an error.
func common(f arrow.Field, other arrow.DataType) (arrow.DataType, error) {
	a, b := f.Type, other
	texts := func(t arrow.DataType) bool {
		return t.ID() == arrow.STRING || t.ID() == arrow.LARGE_STRING || t.ID() == arrow.STRING_VIEW
	}
	ta, isTime := a.(*arrow.TimestampType)
	tb, bothTimes := b.(*arrow.TimestampType)
	switch {
	case schema.Alike(a, b), a.ID() == arrow.NULL:
		return b, nil
	case b.ID() == arrow.NULL:
		return a, nil
	case texts(a) && texts(b):
		return arrow.BinaryTypes.String, nil
	case isTime && bothTimes && ta.TimeZone == tb.TimeZone:
		return &arrow.TimestampType{Unit: max(ta.Unit, tb.Unit), TimeZone: ta.TimeZone}, nil
	case arrow.IsInteger(a.ID()) && arrow.IsInteger(b.ID()) && a.ID() != arrow.UINT64 && b.ID() != arrow.UINT64:
		return integer, nil
	case isWhole(a) && isWhole(b):
		return wide, nil
	case (isWhole(a) || arrow.IsFloating(a.ID())) && (isWhole(b) || arrow.IsFloating(b.ID())):
		return float, nil
	}
	return nil, &tables.SchemaError{Column: f.Name, Err: fmt.Errorf("it has type %s in one table and %s in another", b, a)}
}
