package filter

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/sqlquote"
)

// Quoted is a column's name as an expression writes it.
func Quoted(column string) string { return sqlquote.Name(column) }

// Compare returns the expression that compares a column with a value, which is written
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
	return &Expr{text: Quoted(column.Name) + " " + sign + " " + l.String(), root: &node{op: op, column: column.Name, values: []literal{l}}}, nil
}

// IsNull returns the expression that is true where a column is null.
func IsNull(column string) *Expr {
	return &Expr{text: Quoted(column) + " is null", root: &node{op: opNull, column: column}}
}

// Not returns the expression that is true where another is false.
func Not(e *Expr) *Expr {
	return &Expr{text: "not (" + e.text + ")", root: &node{op: opNot, parts: []*node{e.root}}}
}
