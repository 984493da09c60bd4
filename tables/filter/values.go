package filter

import (
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Value is a type of values that columns are compared with. Compare columns of dates and
// times with a time.Time or a text. A float stands for the decimal number that Go prints
// for it.
type Value interface {
	~bool | ~string | ~float32 | ~float64 |
		~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | time.Time
}

// Eq returns an expression that is true where a column equals a value.
func Eq[V Value](column string, v V) *Expr { return against(column, "=", v) }

// Ne returns an expression that is true where a column is neither null nor equal to a
// value.
func Ne[V Value](column string, v V) *Expr { return against(column, "!=", v) }

// Lt returns an expression that is true where a column is less than a value.
func Lt[V Value](column string, v V) *Expr { return against(column, "<", v) }

// Le returns an expression that is true where a column is less than or equal to a value.
func Le[V Value](column string, v V) *Expr { return against(column, "<=", v) }

// Gt returns an expression that is true where a column is greater than a value.
func Gt[V Value](column string, v V) *Expr { return against(column, ">", v) }

// Ge returns an expression that is true where a column is greater than or equal to a value.
func Ge[V Value](column string, v V) *Expr { return against(column, ">=", v) }

// Between returns an expression that is true where a column is at least low and at most
// high.
func Between[V Value](column string, low, high V) *Expr {
	return And(Ge(column, low), Le(column, high))
}

// In returns an expression that is true where a column equals one of the values. Without
// values, it is true for no row.
func In[V Value](column string, values ...V) *Expr {
	if len(values) == 0 {
		return And(IsNull(column), Not(IsNull(column)))
	}
	e := &Expr{root: &node{op: opIn, column: column}}
	texts := make([]string, len(values))
	for i, v := range values {
		one := against(column, "=", v)
		if one.err != nil {
			return one
		}
		e.root.values = append(e.root.values, one.root.values...)
		texts[i] = one.root.values[0].String()
	}
	e.text = Quoted(column) + " in (" + strings.Join(texts, ", ") + ")"
	return e
}

// Like returns an expression that is true where a column matches a pattern, in which %
// stands for any text and _ for any one character.
func Like(column, pattern string) *Expr { return against(column, "like", pattern) }

// against compares a column with a Value.
func against(column, sign string, v any) *Expr {
	l, err := literalOf(v)
	if err != nil { // which no text may hide
		return &Expr{text: Quoted(column) + " " + sign + " ?", root: &node{column: column}, err: fmt.Errorf("filter: column %q: %w", column, err)}
	}
	op := opLike
	if sign != "like" {
		op = comparisons[sign]
	}
	return compare(column, sign, op, l)
}

func literalOf(v any) (literal, error) {
	switch v := v.(type) {
	case time.Time:
		return literal{kind: literalText, text: TimeText(v)}, nil
	case time.Duration:
		return literal{}, fmt.Errorf("a duration, as %s, is compared as a number of the column's units", v)
	}
	var text string
	switch r := reflect.ValueOf(v); {
	case r.Kind() == reflect.Bool:
		return literal{kind: literalBool, text: strconv.FormatBool(r.Bool()), truth: r.Bool()}, nil
	case r.Kind() == reflect.String:
		if !utf8.ValidString(r.String()) {
			return literal{}, fmt.Errorf("%.40q is no text in UTF-8", r.String())
		}
		return literal{kind: literalText, text: r.String()}, nil
	case r.CanInt():
		text = strconv.FormatInt(r.Int(), 10)
	case r.CanUint():
		text = strconv.FormatUint(r.Uint(), 10)
	default:
		text = strconv.FormatFloat(r.Float(), 'g', -1, r.Type().Bits())
	}
	number, ok := new(big.Rat).SetString(text)
	if !ok {
		return literal{}, fmt.Errorf("nothing is equal to %s, less or more", text)
	}
	return literal{kind: literalNumber, text: text, number: number}, nil
}

// TimeText formats a time as expressions write it, in UTC.
func TimeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999999999") }
