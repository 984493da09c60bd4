package transform

import (
	"bytes"
	"cmp"
	"encoding/json"
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

// function is an aggregate in SQL with placeholders. {x} is a column's value with NaN as null, {n} the value as a
// number, and {f} the value as a float. {k} is a sort key: the time, then the row's position in the table.
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

// If a bin contains an infinity, its variance is NaN, because the engine's variance functions would fail.
const variance = "CASE WHEN bool_or(isinf({f})) THEN 'nan'::DOUBLE ELSE %s(CASE WHEN isfinite({f}) THEN {f} END) END"

var functions = map[string]function{
	"mean":     {sql: "avg({n})", resultType: float64Type, numeric: true},
	"sum":      {sql: "sum({n})", empty: "0", numeric: true},
	"min":      {sql: "min({x})"},
	"max":      {sql: "max({x})"},
	"first":    {sql: "arg_min({x}, {k})"},
	"last":     {sql: "arg_max({x}, {k})"},
	"count":    {sql: "count({x})", empty: "0", resultType: int64Type},
	"size":     {sql: "count(*)", empty: "0", resultType: int64Type},
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

// FunctionCalls are functions that apply to all columns, such as "max", or functions of one column, such as
// "max(high)". The two kinds cannot be mixed, except that "size" can always be added.
type FunctionCalls []string

// UnmarshalJSON decodes an array of strings, or an object as in pandas: {"high": "max", "price": ["first", "last"]}.
func (f *FunctionCalls) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '{' {
		return json.Unmarshal(b, (*[]string)(f))
	}
	d := json.NewDecoder(bytes.NewReader(b)) // A map would lose the order of the columns.
	_, err := d.Token()
	for *f = nil; err == nil && d.More(); {
		column, columnErr := d.Token()
		var value json.RawMessage
		names := make([]string, 1)
		err = errors.Join(columnErr, d.Decode(&value))
		if err == nil && json.Unmarshal(value, &names[0]) != nil {
			err = json.Unmarshal(value, &names)
		}
		for _, name := range names {
			*f = append(*f, fmt.Sprintf("%s(%s)", name, column))
		}
	}
	return err
}

// functionCall is a function of one column or, if column is empty, of all columns.
type functionCall struct{ function, column string }

// parse returns the calls, and the columns that they name.
func (f FunctionCalls) parse() (calls []functionCall, columns []string, err error) {
	if len(f) == 0 {
		return nil, nil, &tables.ArgumentError{Err: fmt.Errorf("no function given: use one of %s", strings.Join(Functions, ", "))}
	}
	withoutColumn := ""
	for _, text := range f {
		name, column, hasColumn := strings.Cut(text, "(")
		column, isClosed := strings.CutSuffix(column, ")")
		switch {
		case !slices.Contains(Functions, name):
			return nil, nil, &tables.ArgumentError{Err: fmt.Errorf("unknown function %.40q: use one of %s", name, strings.Join(Functions, ", "))}
		case hasColumn != isClosed || hasColumn && column == "":
			return nil, nil, &tables.ArgumentError{Err: fmt.Errorf("%.40q is not a function of a column: write %s(COLUMN)", text, name)}
		case slices.Contains(fillFunctions, name) && (len(f) > 1 || hasColumn):
			return nil, nil, &tables.ArgumentError{Err: fmt.Errorf("%s must be the only function because it fills bins from adjacent rows: name it without a column, and remove the other functions", name)}
		case !hasColumn && name != "size":
			withoutColumn = name
		case hasColumn && !slices.Contains(columns, column):
			columns = append(columns, column)
		}
		calls = append(calls, functionCall{name, column})
	}
	if columns != nil && withoutColumn != "" {
		return nil, nil, &tables.ArgumentError{Err: fmt.Errorf("%[1]s needs a column, because other functions have one: write %[1]s(COLUMN)", withoutColumn)}
	}
	return calls, columns, nil
}

// aggregate is a column of the result: a function applied to a source column.
type aggregate struct {
	field arrow.Field
	sql   string // SQL that aggregates a bin's rows
	empty string // result for an empty bin, in SQL; "" means null

	function        string
	column          int  // index in resampling.columns; unused for size
	byCategoryOrder bool // values are compared by their positions among the dictionary's categories
}

// newAggregates applies each call to its columns and returns the result columns. In their SQL, the given columns have
// the names c0, c1 and so on, and the sort key has the name k.
func newAggregates(columns []arrow.Field, calls []functionCall) ([]aggregate, error) {
	var all []aggregate
	size := functionCall{function: "size"}
	needsSuffix := slices.ContainsFunc(calls, func(a functionCall) bool {
		return slices.ContainsFunc(calls, func(b functionCall) bool { return a.column == b.column && a.function != b.function })
	})
	for i, c := range columns {
		for _, call := range calls {
			name, parts := call.function, []string{call.function}
			switch {
			case call == size || call.column != "" && call.column != c.Name:
				continue
			case name == "ohlc":
				parts = ohlc
			}
			for _, p := range parts {
				a, err := newAggregate(c, fmt.Sprint("c", i), p)
				if err != nil {
					return nil, &tables.SchemaError{Column: c.Name, Err: fmt.Errorf("it has type %w, but %s needs numbers: choose other columns, or another function", err, name)}
				}
				if needsSuffix || name == "ohlc" {
					a.field.Name += "_" + p
				}
				a.function, a.column = p, i
				all = append(all, a)
			}
		}
	}
	if slices.Contains(calls, size) {
		all = append(all, aggregate{field: arrow.Field{Name: "size", Type: int64Type, Nullable: true}, sql: "count(*)", empty: "0", function: "size"})
	}
	return all, nil
}

func newAggregate(column arrow.Field, x, name string) (aggregate, error) {
	f, t, typeInfo := functions[name], column.Type, arrowtype.Of(column.Type)
	n := x
	resultType := t
	kind, _ := column.Metadata.GetValue(schema.ValuesKey)
	kind = cmp.Or(kind, column.Metadata.ToMap()["ARROW:extension:name"])
	switch {
	case f.numeric && kind != "": // such as period[M], which is stored as integers
		return aggregate{}, errors.New(kind)
	case typeInfo.Kind == arrowtype.Float:
		n, resultType = x+"::DOUBLE", float64Type
	case typeInfo.Kind == arrowtype.Bool:
		n, resultType = x+"::INTEGER", int64Type
	case typeInfo.Native == reflect.Uint64:
		resultType = t
	case typeInfo.Kind == arrowtype.Integer:
		resultType = int64Type
	case typeInfo.Kind == arrowtype.Decimal:
		resultType = &arrow.Decimal128Type{Precision: 38, Scale: t.(arrow.DecimalType).GetScale()}
	case f.numeric:
		return aggregate{}, errors.New(t.String())
	}
	if name != "sum" {
		resultType = t
	}
	sql := f.sql
	if name == "sum" && arrow.IsInteger(resultType.ID()) { // the engine's sums of integers are wider than 64 bits
		sql = fmt.Sprintf("coalesce(TRY_CAST(%s AS %s), CASE WHEN count({x}) > 0 THEN error(%s) END)", sql,
			map[bool]string{true: "UBIGINT", false: "BIGINT"}[resultType.ID() == arrow.UINT64],
			sqltext.Text(fmt.Sprintf("column %q: %v", column.Name, overflowError(resultType))))
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
