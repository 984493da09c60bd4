package filter

import (
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// Compare returns the expression that compares a column with a value: op is =, !=, <, <=,
// > or >=. The value is as an expression has it, without quotes.
func Compare(column arrow.Field, op, value string) (*Expr, error) {
	n := &node{op: comparisons[op], column: column.Name, values: []literal{{kind: literalText, text: value}}}
	if kind, _ := kindOf(column.Type); kind == literalNumber {
		value = strings.TrimSpace(value)
		t, end, err := next(value, 0)
		if err != nil {
			return nil, err
		}
		if t.value.kind != literalNumber || end < len(value) {
			return nil, &SyntaxError{0, "expected a number, found " + value}
		}
		n.values[0] = t.value
	}
	return &Expr{text: Quote(column.Name) + " " + op + " " + n.values[0].String(), root: n}, nil
}

// IsNull returns the expression that is true where a column is null.
func IsNull(column string) *Expr {
	return &Expr{text: Quote(column) + " is null", root: &node{op: opNull, column: column}}
}

// Not returns the expression that is true where another is false.
func Not(e *Expr) *Expr {
	return &Expr{text: "not (" + e.text + ")", root: &node{op: opNot, parts: []*node{e.root}}}
}

// Quote returns the name of a column as expressions, and SQL, have any name.
func Quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
