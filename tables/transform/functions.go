package transform

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
)

// function is an aggregate as SQL: of {x}, a column in which NaNs are nulls, {n},
// the same as a number, {f}, as a float, and {k}, by which rows are in the order
// of their times, and those of one time in the table's.
type function struct {
	sql     string
	empty   string         // of an empty bin; "": null
	gives   arrow.DataType // nil: the column's own type
	numeric bool           // takes nothing but numbers
}

// keeps reports whether the function's results have the column's type.
func (f function) keeps() bool { return f.gives == nil && f.empty == "" }

var (
	float   = arrow.PrimitiveTypes.Float64
	integer = arrow.PrimitiveTypes.Int64
)

// With an infinity among them, numbers have no variance; the engine would fail.
const variance = "CASE WHEN bool_or(isinf({f})) THEN 'nan'::DOUBLE ELSE %s(CASE WHEN isfinite({f}) THEN {f} END) END"

var functions = map[string]function{
	"mean":     {sql: "avg({n})", gives: float, numeric: true},
	"sum":      {sql: "sum({n})", empty: "0", numeric: true},
	"min":      {sql: "min({x})"},
	"max":      {sql: "max({x})"},
	"first":    {sql: "arg_min({x}, {k})"},
	"last":     {sql: "arg_max({x}, {k})"},
	"count":    {sql: "count({x})", empty: "0", gives: integer},
	"nunique":  {sql: "count(DISTINCT {x})", empty: "0", gives: integer},
	"median":   {sql: "median({f})", gives: float, numeric: true},
	"quantile": {sql: "median({f})", gives: float, numeric: true}, // pandas' 0.5
	"std":      {sql: fmt.Sprintf(variance, "stddev_samp"), gives: float, numeric: true},
	"var":      {sql: fmt.Sprintf(variance, "var_samp"), gives: float, numeric: true},
	"sem":      {sql: fmt.Sprintf(variance, "stddev_samp") + " / sqrt(count({x}))", gives: float, numeric: true},
	"prod":     {sql: "product({f})", empty: "1", gives: float, numeric: true},
	"open":     {sql: "arg_min({x}, {k})", numeric: true},
	"high":     {sql: "max({x})", numeric: true},
	"low":      {sql: "min({x})", numeric: true},
	"close":    {sql: "arg_max({x}, {k})", numeric: true},
	"ffill":    {sql: "{x}"}, "bfill": {sql: "{x}"}, "nearest": {sql: "{x}"}, "asfreq": {sql: "{x}"},
	"interpolate": {sql: "{f}", gives: float, numeric: true},
}

// Functions lists the names that ResampleOptions.Functions accepts.
var Functions = []string{"mean", "sum", "min", "max", "first", "last", "count", "median", "std", "var", "sem", "prod", "size", "ohlc", "nunique", "quantile", "ffill", "bfill", "nearest", "asfreq", "interpolate"}

var candle = []string{"open", "high", "low", "close"}

// aggregate is a column of the result.
type aggregate struct {
	field arrow.Field
	sql   string // of the rows of a bin
	empty string

	function string
	column   int  // of the resampling's; size has none
	byPlace  bool // values are compared by their place among categories
}

// aggregates are the columns that functions make of columns. Those are named c0,
// c1 and so on in the SQL, the order of rows k.
func aggregates(columns []arrow.Field, names []string) ([]aggregate, error) {
	if len(names) == 0 {
		return nil, &tables.ArgumentError{Err: fmt.Errorf("there is no function: there are %s", strings.Join(Functions, ", "))}
	}
	for _, name := range names {
		if !slices.Contains(Functions, name) {
			return nil, &tables.ArgumentError{Err: fmt.Errorf("there is no function %.40q: there are %s", name, strings.Join(Functions, ", "))}
		}
		if slices.Contains(fillers, name) && len(names) > 1 {
			return nil, &tables.ArgumentError{Err: fmt.Errorf("%s stands alone, as it makes bins of the rows beside them: leave out the other functions", name)}
		}
	}
	var all []aggregate
	for i, c := range columns {
		for _, name := range names {
			parts := []string{name}
			switch name {
			case "size":
				continue
			case "ohlc":
				parts = candle
			}
			for _, p := range parts {
				a, err := newAggregate(c, fmt.Sprint("c", i), p)
				if err != nil {
					return nil, &tables.SchemaError{Column: c.Name, Err: fmt.Errorf("it has type %s, and %s takes numbers alone: choose columns, or another function", c.Type, name)}
				}
				if len(names) > 1 || name == "ohlc" {
					a.field.Name += "_" + p
				}
				a.function, a.column = p, i
				all = append(all, a)
			}
		}
	}
	if slices.Contains(names, "size") {
		all = append(all, aggregate{field: arrow.Field{Name: "size", Type: integer, Nullable: true}, sql: "count(*)", empty: "0", function: "size"})
	}
	return all, nil
}

func newAggregate(column arrow.Field, x, name string) (aggregate, error) {
	f, t := functions[name], column.Type
	n := x
	gives := t
	switch {
	case arrow.IsFloating(t.ID()):
		n, gives = x+"::DOUBLE", float
	case t.ID() == arrow.BOOL:
		n, gives = x+"::INTEGER", integer
	case t.ID() == arrow.UINT64:
		gives = t
	case arrow.IsInteger(t.ID()):
		gives = integer
	case arrow.IsDecimal(t.ID()):
		gives = &arrow.Decimal128Type{Precision: 38, Scale: t.(arrow.DecimalType).GetScale()}
	case f.numeric:
		return aggregate{}, fmt.Errorf("%s is no number", t)
	}
	if name != "sum" {
		gives = t
	}
	sql := f.sql
	if name == "sum" && arrow.IsInteger(gives.ID()) { // else it would be as wide as the engine's sums
		sql += map[bool]string{true: "::UBIGINT", false: "::BIGINT"}[gives.ID() == arrow.UINT64]
	}
	if f.empty != "" {
		sql = fmt.Sprintf("coalesce(%s, %s)", sql, f.empty)
	}
	sql = strings.NewReplacer("{x}", x, "{n}", n, "{f}", x+"::DOUBLE", "{k}", "k").Replace(sql)
	made := aggregate{field: arrow.Field{Name: column.Name, Type: cmp.Or(f.gives, gives), Nullable: true}, sql: sql, empty: f.empty}
	if f.keeps() {
		made.field.Metadata = extensionOf(column.Metadata)
	}
	return made, nil
}

// ordered reports whether rows must be told in the order of their times.
func ordered(all []aggregate) bool {
	return slices.ContainsFunc(all, func(a aggregate) bool { return strings.HasSuffix(a.sql, ", k)") })
}
