package transform

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
)

// function is an aggregate in SQL with placeholders. {x} is a column's value with NaN as null, {n} the value as
// a number, {f} the value as a float. {k} is a sort key: the time, then the row's position in the table.
type function struct {
	sql        string
	empty      string         // result for an empty bin; "" means null
	resultType arrow.DataType // nil means the column's type
	numeric    bool           // accepts only numbers
}

func (f function) keepsType() bool { return f.resultType == nil && f.empty == "" }

var (
	float64Type = arrow.PrimitiveTypes.Float64
	int64Type   = arrow.PrimitiveTypes.Int64
)

// If a bin has an infinity, its variance is NaN, because the engine's variance functions would fail.
const variance = "CASE WHEN bool_or(isinf({f})) THEN 'nan'::DOUBLE ELSE %s(CASE WHEN isfinite({f}) THEN {f} END) END"

var functions = map[string]function{
	"mean":     {sql: "avg({n})", resultType: float64Type, numeric: true},
	"sum":      {sql: "sum({n})", empty: "0", numeric: true},
	"min":      {sql: "min({x})"},
	"max":      {sql: "max({x})"},
	"first":    {sql: "arg_min({x}, {k})"},
	"last":     {sql: "arg_max({x}, {k})"},
	"count":    {sql: "count({x})", empty: "0", resultType: int64Type},
	"nunique":  {sql: "count(DISTINCT {x})", empty: "0", resultType: int64Type},
	"median":   {sql: "median({f})", resultType: float64Type, numeric: true},
	"quantile": {sql: "median({f})", resultType: float64Type, numeric: true}, // pandas' default is the quantile 0.5
	"std":      {sql: fmt.Sprintf(variance, "stddev_samp"), resultType: float64Type, numeric: true},
	"var":      {sql: fmt.Sprintf(variance, "var_samp"), resultType: float64Type, numeric: true},
	"sem":      {sql: fmt.Sprintf(variance, "stddev_samp") + " / sqrt(count({x}))", resultType: float64Type, numeric: true},
	"prod":     {sql: "product({f})", empty: "1", resultType: float64Type, numeric: true},
	"open":     {sql: "arg_min({x}, {k})", numeric: true},
	"high":     {sql: "max({x})", numeric: true},
	"low":      {sql: "min({x})", numeric: true},
	"close":    {sql: "arg_max({x}, {k})", numeric: true},
	"ffill":    {sql: "{x}"}, "bfill": {sql: "{x}"}, "nearest": {sql: "{x}"}, "asfreq": {sql: "{x}"},
	"interpolate": {sql: "{f}", resultType: float64Type, numeric: true},
}

// Functions lists all names that ResampleOptions.Functions accepts.
var Functions = []string{"mean", "sum", "min", "max", "first", "last", "count", "median", "std", "var", "sem", "prod", "size", "ohlc", "nunique", "quantile", "ffill", "bfill", "nearest", "asfreq", "interpolate"}

var ohlc = []string{"open", "high", "low", "close"}

// aggregate is a column of the result: a function applied to a source column.
type aggregate struct {
	field arrow.Field
	sql   string // SQL for the aggregate of a bin's rows
	empty string // result for an empty bin, in SQL; "" means null

	function        string
	column          int  // index in resampling.columns; unused for size
	byCategoryOrder bool // values are compared by their positions among the dictionary's categories
}

// newAggregates applies each named function to each column, and returns the result columns. Their SQL refers
// to the columns as c0, c1 and so on, and to the sort key as k.
func newAggregates(columns []arrow.Field, names []string) ([]aggregate, error) {
	if len(names) == 0 {
		return nil, &tables.ArgumentError{Err: fmt.Errorf("no function given: use one of %s", strings.Join(Functions, ", "))}
	}
	for _, name := range names {
		if !slices.Contains(Functions, name) {
			return nil, &tables.ArgumentError{Err: fmt.Errorf("unknown function %.40q: use one of %s", name, strings.Join(Functions, ", "))}
		}
		if slices.Contains(fillFunctions, name) && len(names) > 1 {
			return nil, &tables.ArgumentError{Err: fmt.Errorf("%s must be the only function because it fills bins from adjacent rows: remove the other functions", name)}
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
				parts = ohlc
			}
			for _, p := range parts {
				a, err := newAggregate(c, fmt.Sprint("c", i), p)
				if err != nil {
					return nil, &tables.SchemaError{Column: c.Name, Err: fmt.Errorf("it has type %s, but %s needs numbers: choose other columns, or another function", c.Type, name)}
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
		all = append(all, aggregate{field: arrow.Field{Name: "size", Type: int64Type, Nullable: true}, sql: "count(*)", empty: "0", function: "size"})
	}
	return all, nil
}

func newAggregate(column arrow.Field, x, name string) (aggregate, error) {
	f, t := functions[name], column.Type
	n := x
	resultType := t
	switch {
	case arrow.IsFloating(t.ID()):
		n, resultType = x+"::DOUBLE", float64Type
	case t.ID() == arrow.BOOL:
		n, resultType = x+"::INTEGER", int64Type
	case t.ID() == arrow.UINT64:
		resultType = t
	case arrow.IsInteger(t.ID()):
		resultType = int64Type
	case arrow.IsDecimal(t.ID()):
		resultType = &arrow.Decimal128Type{Precision: 38, Scale: t.(arrow.DecimalType).GetScale()}
	case f.numeric:
		return aggregate{}, fmt.Errorf("%s is not a number", t)
	}
	if name != "sum" {
		resultType = t
	}
	sql := f.sql
	if name == "sum" && arrow.IsInteger(resultType.ID()) { // the engine's sums of integers are wider than 64 bits
		sql += map[bool]string{true: "::UBIGINT", false: "::BIGINT"}[resultType.ID() == arrow.UINT64]
	}
	if f.empty != "" {
		sql = fmt.Sprintf("coalesce(%s, %s)", sql, f.empty)
	}
	sql = strings.NewReplacer("{x}", x, "{n}", n, "{f}", x+"::DOUBLE", "{k}", "k").Replace(sql)
	result := aggregate{field: arrow.Field{Name: column.Name, Type: cmp.Or(f.resultType, resultType), Nullable: true}, sql: sql, empty: f.empty}
	if f.keepsType() {
		result.field.Metadata = extensionMetadata(column.Metadata)
	}
	return result, nil
}

// needsOrder reports whether an aggregate depends on the order of the rows.
func needsOrder(all []aggregate) bool {
	return slices.ContainsFunc(all, func(a aggregate) bool { return strings.HasSuffix(a.sql, ", k)") })
}
