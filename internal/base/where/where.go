// Package where parses the conditions of --where and the parts of columns that can be keys. Two programs share it:
// partd evaluates conditions on the fields of records, and package filter of the module tables on Arrow columns.
package where

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// SyntaxError describes a mistake in the text of an expression.
type SyntaxError struct {
	Offset int // offset in bytes from the start of the text
	Msg    string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("filter: position %d: %s", e.Offset+1, e.Msg)
}

// Operator is the operation of a node.
type Operator int

// The operators.
const (
	And Operator = iota
	Or
	Not
	Eq
	Ne
	Lt
	Le
	Gt
	Ge
	In
	Like
	Null
	Operators // the number of operators
)

// Node is a node of an expression's syntax tree. It has parts if Op is And, Or or Not; otherwise, it tests Column.
type Node struct {
	Op     Operator
	Parts  []*Node
	Column string
	Part   *Part // the part of Column to test; nil means the whole value

	IsColumn  bool // whether Column is compared with the column Other instead of Values
	Other     string
	OtherPart *Part

	Values []Literal
	Bounds []Literal // both bounds of "between"; Values has one of them
	Offset int
}

// Columns appends the names of the columns that the node tests to names, without duplicates.
func (n *Node) Columns(names []string) []string {
	for _, part := range n.Parts {
		names = part.Columns(names)
	}
	if len(n.Parts) > 0 {
		return names
	}
	if !slices.Contains(names, n.Column) {
		names = append(names, n.Column)
	}
	if n.IsColumn && !slices.Contains(names, n.Other) {
		names = append(names, n.Other)
	}
	return names
}

// Kind is the kind of a literal.
type Kind int

// The kinds of literals.
const (
	Text Kind = iota
	Number
	Bool
)

// Literal is a value in an expression.
type Literal struct {
	Kind   Kind
	Text   string // the words true and false are in lower case
	Number *big.Rat
	Offset int
}

func (l Literal) String() string {
	if l.Kind == Text {
		return "'" + strings.ReplaceAll(l.Text, "'", "''") + "'"
	}
	return l.Text
}

// ParseNumber parses text that consists of a number.
func ParseNumber(text string) (Literal, error) {
	t, end, err := nextToken(text, 0)
	if err == nil && (t.kind != tokenLiteral || strings.TrimSpace(text[end:]) != "") {
		err = &SyntaxError{0, fmt.Sprintf("%q is not a number", text)}
	}
	return t.value, err
}
