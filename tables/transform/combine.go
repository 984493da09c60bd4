package transform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/arrowtypes"
)

// Combine puts the rows of several tables: with union all of them, below each
// other; with join those whose columns On are equal in all of them, beside each
// other.
func Combine(ctx context.Context, s *tables.Store, o *CombineOptions) (Result, error) {
	r, err := combine(ctx, s, o)
	return r, opError("combine", o.Target, err)
}

func combine(ctx context.Context, s *tables.Store, o *CombineOptions) (Result, error) {
	if len(o.Sources) < 2 {
		return Result{}, errors.New("there must be two sources or more")
	}
	c := &combining{}
	var done Result
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
	var err error
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
				x = widened(s.schema.Field(at[0]), f.Type)
			}
			columns = append(columns, x+" AS "+quote(f.Name))
		}
		parts = append(parts, "SELECT "+strings.Join(columns, ", ")+" FROM "+s.sql())
	}
	return strings.Join(parts, "\nUNION ALL "), nil
}

// widened is a column as one of a type that holds it. The engine would make float32 of an
// integer and a float32, and round what float64 does not hold.
func widened(f arrow.Field, to arrow.DataType) string {
	x := quote(f.Name)
	if to.ID() != arrow.FLOAT64 || f.Type.ID() == arrow.FLOAT64 || f.Type.ID() == arrow.NULL {
		return x
	}
	as := "CAST(" + x + " AS DOUBLE)"
	if !arrow.IsInteger(f.Type.ID()) {
		return as
	}
	says := strings.ReplaceAll(fmt.Sprintf("column %q: float64, which holds the numbers of all sources, does not hold ", f.Name), "'", "''")
	return fmt.Sprintf("CASE WHEN %[1]s IS NULL OR CAST(%[2]s AS HUGEINT) = %[1]s THEN %[2]s ELSE error('%[3]s' || %[1]s) END", x, as, says)
}

// equal is the condition that a column of the first source and one of another are
// equal. An integer and a float are, if they are the same number.
func equal(name string, first arrow.DataType, other string, of arrow.DataType) string {
	a, b := "s0."+quote(name), other+"."+quote(name)
	if arrow.IsFloating(first.ID()) {
		first, of, a, b = of, first, b, a
	}
	if !arrow.IsInteger(first.ID()) || !arrow.IsFloating(of.ID()) {
		return a + " = " + b
	}
	return fmt.Sprintf("CAST(%[1]s AS DOUBLE) = CAST(%[2]s AS DOUBLE) AND CAST(%[1]s AS HUGEINT) = TRY_CAST(CAST(%[2]s AS DOUBLE) AS HUGEINT)", a, b)
}

// join has the columns on, then those of each source. One whose name an earlier
// source has gets its table's behind it.
func (c *combining) join(on []string) (string, error) {
	var columns []string
	from := ""
	for i, s := range c.sources {
		var both []string
		for _, name := range on {
			f, err := field(s.schema, name)
			if err != nil {
				return "", fmt.Errorf("table %q: %w", s.Name, err)
			}
			if i == 0 {
				c.fields = append(c.fields, arrow.Field{Name: name, Type: f.Type, Nullable: true})
				columns = append(columns, "s0."+quote(name))
				continue
			}
			first := c.fields[slices.Index(on, name)].Type
			if _, err := common(f, first); err != nil {
				return "", err
			}
			both = append(both, equal(name, first, fmt.Sprint("s", i), f.Type))
		}
		if i == 0 {
			from = s.sql() + " AS s0"
		} else {
			from += fmt.Sprintf(" JOIN %s AS s%d ON %s", s.sql(), i, strings.Join(both, " AND "))
		}
	}
	for i, s := range c.sources {
		for _, f := range s.schema.Fields() {
			if slices.Contains(on, f.Name) {
				continue
			}
			taken := func(g arrow.Field) bool { return g.Name == f.Name }
			columns = append(columns, fmt.Sprintf("s%d.%s", i, quote(f.Name)))
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

// common is the type that holds a column's values, and those of another type.
func common(f arrow.Field, other arrow.DataType) (arrow.DataType, error) {
	a, b := f.Type, other
	texts := func(t arrow.DataType) bool {
		return t.ID() == arrow.STRING || t.ID() == arrow.LARGE_STRING || t.ID() == arrow.STRING_VIEW
	}
	ta, isTime := a.(*arrow.TimestampType)
	tb, bothTimes := b.(*arrow.TimestampType)
	switch {
	case arrowtypes.Alike(a, b), a.ID() == arrow.NULL:
		return b, nil
	case b.ID() == arrow.NULL:
		return a, nil
	case texts(a) && texts(b):
		return arrow.BinaryTypes.String, nil
	case isTime && bothTimes && ta.TimeZone == tb.TimeZone:
		return &arrow.TimestampType{Unit: max(ta.Unit, tb.Unit), TimeZone: ta.TimeZone}, nil
	case arrow.IsInteger(a.ID()) && arrow.IsInteger(b.ID()) && a.ID() != arrow.UINT64 && b.ID() != arrow.UINT64:
		return integer, nil
	case (arrow.IsInteger(a.ID()) || arrow.IsFloating(a.ID())) && (arrow.IsInteger(b.ID()) || arrow.IsFloating(b.ID())):
		return float, nil
	}
	return nil, &tables.SchemaError{Column: f.Name, Err: fmt.Errorf("it has type %s in one table and %s in another", b, a)}
}
