package filter

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/sqlquote"
)

// Quoted returns a column's name in double quotes, as expressions write it.
func Quoted(column string) string { return sqlquote.Name(column) }

// Compare returns an expression that compares a column with a value. The value is written
// as in an expression, but without quotes. The sign is one of = != < <= > >=.
func Compare(column arrow.Field, sign, value string) (*Expr, error) {
	l := literal{kind: literalText, text: value}
	if t := column.Type.ID(); arrow.IsInteger(t) || arrow.IsFloating(t) || arrow.IsDecimal(t) || t == arrow.DURATION {
		read, end, err := next(value, 0)
		if err == nil && (read.kind != tokenLiteral || strings.TrimSpace(value[end:]) != "") {
			err = &SyntaxError{0, fmt.Sprintf("%q is no number", value)}
		}
		if err != nil {
			return nil, err
		}
		l = read.value
	}
	op, ok := comparisons[sign]
	if !ok {
		return nil, &SyntaxError{0, fmt.Sprintf("%q compares nothing", sign)}
	}
	return compare(column.Name, sign, op, l), nil
}

func compare(column, sign string, op operator, l literal) *Expr {
	return &Expr{text: Quoted(column) + " " + sign + " " + l.String(), root: &node{op: op, column: column, values: []literal{l}}}
}

// IsNull returns an expression that is true where a column is null.
func IsNull(column string) *Expr {
	return &Expr{text: Quoted(column) + " is null", root: &node{op: opNull, column: column}}
}

// Not returns an expression that is true where e is false. A nil e is true for all rows and
// cannot be negated: using the result is then an error.
func Not(e *Expr) *Expr {
	if e == nil {
		return &Expr{text: "not ()", root: &node{op: opNot}, err: errors.New("Not has no condition: nil is true of all rows")}
	}
	return &Expr{text: "not (" + e.text + ")", root: &node{op: opNot, parts: []*node{e.root}}, err: e.err}
}

// And returns an expression that is true where all of its arguments are. It ignores nil
// arguments and returns nil, which is true for all rows, if no others are left.
func And(all ...*Expr) *Expr {
	return joined("and", opAnd, slices.DeleteFunc(slices.Clone(all), func(e *Expr) bool { return e == nil }))
}

// Or returns an expression that is true where any of its arguments is. It returns nil,
// which is true for all rows, if an argument is nil or there are none.
func Or(all ...*Expr) *Expr {
	if slices.Contains(all, nil) {
		return nil
	}
	return joined("or", opOr, all)
}

func joined(word string, op operator, all []*Expr) *Expr {
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	out, texts := &Expr{root: &node{op: op}}, make([]string, len(all))
	for i, e := range all {
		out.root.parts, texts[i] = append(out.root.parts, e.root), "("+e.text+")"
		out.err = cmp.Or(out.err, e.err)
	}
	out.text = strings.Join(texts, " "+word+" ")
	return out
}
