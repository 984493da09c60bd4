package filter

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/base/where"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// Quoted returns a column's name in double quotes, for use in an expression.
func Quoted(column string) string { return sqltext.Name(column) }

// Compare returns an expression that compares a column with a value. sign is one of = != < <= > >=. value is written as
// in an expression, but without quotes.
func Compare(column arrow.Field, sign, value string) (*Expr, error) {
	l := literal{Kind: where.Text, Text: value}
	if t := column.Type.ID(); arrow.IsInteger(t) || arrow.IsFloating(t) || arrow.IsDecimal(t) || t == arrow.DURATION {
		var err error
		l, err = where.ParseNumber(value)
		if err != nil {
			return nil, asSyntaxError(err)
		}
	}
	op, ok := where.Comparisons[sign]
	if !ok {
		return nil, &SyntaxError{0, fmt.Sprintf("%q is not a comparison: use =, !=, <, <=, > or >=", sign)}
	}
	return compare(column.Name, sign, op, l), nil
}

func compare(column, sign string, op operator, l literal) *Expr {
	return &Expr{text: Quoted(column) + " " + sign + " " + l.String(), root: &node{Op: op, Column: column, Values: []literal{l}}}
}

// IsNull returns an expression that is true where a column is null.
func IsNull(column string) *Expr {
	return &Expr{text: Quoted(column) + " is null", root: &node{Op: where.Null, Column: column}}
}

// Not returns an expression that is true where e is false. If e is nil, the result's Bind and Filter return an error.
func Not(e *Expr) *Expr {
	if e == nil {
		return &Expr{text: "not ()", root: &node{Op: where.Not}, err: errors.New("filter: Not(nil) is not supported: pass a condition to Not")}
	}
	return &Expr{text: "not (" + e.text + ")", root: &node{Op: where.Not, Parts: []*node{e.root}}, err: e.err}
}

// And returns an expression that is true where all of its arguments are true. Nil arguments are true for all
// rows. If all arguments are nil, And returns nil.
func And(exprs ...*Expr) *Expr {
	return combine("and", where.And, slices.DeleteFunc(slices.Clone(exprs), func(e *Expr) bool { return e == nil }))
}

// Or returns an expression that is true where any of its arguments is true. If an argument is nil or there are no
// arguments, Or returns nil, which is true for all rows.
func Or(exprs ...*Expr) *Expr {
	if slices.Contains(exprs, nil) {
		return nil
	}
	return combine("or", where.Or, exprs)
}

func combine(word string, op operator, exprs []*Expr) *Expr {
	switch len(exprs) {
	case 0:
		return nil
	case 1:
		return exprs[0]
	}
	out, texts := &Expr{root: &node{Op: op}}, make([]string, len(exprs))
	for i, e := range exprs {
		out.root.Parts, texts[i] = append(out.root.Parts, e.root), "("+e.text+")"
		out.err = cmp.Or(out.err, e.err)
	}
	out.text = strings.Join(texts, " "+word+" ")
	return out
}

// Value lists the types of values that a column can be compared with. Use a time.Time or a string for dates and times.
// A time.Time is compared in UTC; a string without an offset is in the column's time zone. A
// float is compared as the decimal number that Go prints for it: float32(0.1) and 0.1 both mean 0.1.
type Value interface {
	~bool | ~string | ~float32 | ~float64 |
		~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | time.Time
}

// Eq returns an expression that is true where a column equals a value.
func Eq[V Value](column string, v V) *Expr { return compareWith(column, "=", v) }

// Ne returns an expression that is true where a column is not null and differs from a value.
func Ne[V Value](column string, v V) *Expr { return compareWith(column, "!=", v) }

// Lt returns an expression that is true where a column is less than a value.
func Lt[V Value](column string, v V) *Expr { return compareWith(column, "<", v) }

// Le returns an expression that is true where a column is less than or equal to a value.
func Le[V Value](column string, v V) *Expr { return compareWith(column, "<=", v) }

// Gt returns an expression that is true where a column is greater than a value.
func Gt[V Value](column string, v V) *Expr { return compareWith(column, ">", v) }

// Ge returns an expression that is true where a column is greater than or equal to a value.
func Ge[V Value](column string, v V) *Expr { return compareWith(column, ">=", v) }

// Between returns an expression that is true where a column is at least low and at most high.
func Between[V Value](column string, low, high V) *Expr {
	return And(Ge(column, low), Le(column, high))
}

// In returns an expression that is true where a column equals one of the values. Without values, it is never true.
func In[V Value](column string, values ...V) *Expr {
	if len(values) == 0 {
		return And(IsNull(column), Not(IsNull(column)))
	}
	e := &Expr{root: &node{Op: where.In, Column: column}}
	texts := make([]string, len(values))
	for i, v := range values {
		element := compareWith(column, "=", v)
		if element.err != nil {
			return element
		}
		e.root.Values = append(e.root.Values, element.root.Values...)
		texts[i] = element.root.Values[0].String()
	}
	e.text = Quoted(column) + " in (" + strings.Join(texts, ", ") + ")"
	return e
}

// Like returns an expression that is true where a column matches a pattern: % matches any text, _ any character.
func Like(column, pattern string) *Expr { return compareWith(column, "like", pattern) }

func compareWith(column, sign string, v any) *Expr {
	l, err := literalOf(v)
	if err != nil { // the result carries err, which Bind will return; its text has ? in place of the value
		return &Expr{text: Quoted(column) + " " + sign + " ?", root: &node{Column: column}, err: fmt.Errorf("filter: column %q: %w", column, err)}
	}
	op := where.Like
	if sign != "like" {
		op = where.Comparisons[sign]
	}
	return compare(column, sign, op, l)
}

func literalOf(v any) (literal, error) {
	switch v := v.(type) {
	case time.Time:
		return literal{Kind: where.Text, Text: TimeText(v)}, nil
	case time.Duration:
		return literal{}, fmt.Errorf("a duration such as %s cannot be compared: use a number in the column's units", v)
	}
	var text string
	r := reflect.ValueOf(v)
	switch {
	case r.Kind() == reflect.Bool:
		return literal{Kind: where.Bool, Text: strconv.FormatBool(r.Bool())}, nil
	case r.Kind() == reflect.String:
		if !utf8.ValidString(r.String()) {
			return literal{}, fmt.Errorf("%.40q is not valid UTF-8", r.String())
		}
		return literal{Kind: where.Text, Text: r.String()}, nil
	case r.CanInt():
		text = strconv.FormatInt(r.Int(), 10)
	case r.CanUint():
		text = strconv.FormatUint(r.Uint(), 10)
	default:
		text = strconv.FormatFloat(r.Float(), 'g', -1, r.Type().Bits())
	}
	number, ok := new(big.Rat).SetString(text)
	if !ok {
		return literal{}, fmt.Errorf("%s cannot be compared", text)
	}
	return literal{Kind: where.Number, Text: text, Number: number}, nil
}

// utcOffset is the offset of a time in UTC that can also be compared with columns that have no time zone.
const utcOffset = "-00:00"

// TimeText formats a time in UTC, in the syntax of expressions. Columns with and without a time zone can be compared
// with it.
func TimeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999999999") + utcOffset }
