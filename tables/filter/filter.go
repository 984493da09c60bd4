// Package filter selects rows by an expression such as
//
//	price > 100 and sym in ('A', 'B')
//
// An expression is parsed, and then applied to record batches. Scans also leave out the
// files and row groups of which [Condition.May] says by their bounds that no row holds it.
//
// Logic has three values, as SQL's: a comparison with a null is neither true nor
// false, and only rows for which the whole is true are kept. A NaN is unequal to
// every number, and neither less nor greater. The grammar is in docs/filter.md.
package filter

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/take"
)

// SyntaxError says what is wrong with the text of an expression, and where.
type SyntaxError struct {
	Offset int // in bytes from the beginning of the text
	Msg    string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("filter: position %d: %s", e.Offset+1, e.Msg)
}

// Expr is an expression that is not yet bound to a schema. It is a condition for
// scans, and may be used by many goroutines.
type Expr struct {
	text  string
	root  *node
	bound atomic.Pointer[boundTo] // by the last Filter
}

type boundTo struct {
	schema    *arrow.Schema
	condition *Condition
}

// Columns returns the names of the columns that are looked at, each once.
func (e *Expr) Columns() []string { return e.root.columns(nil) }

func (n *node) columns(to []string) []string {
	for _, part := range n.parts {
		to = part.columns(to)
	}
	if len(n.parts) > 0 {
		return to
	}
	if !slices.Contains(to, n.column) {
		to = append(to, n.column)
	}
	if n.against && !slices.Contains(to, n.other) {
		to = append(to, n.other)
	}
	return to
}

// And returns the expression that is true where all are.
func And(all ...*Expr) *Expr {
	if len(all) == 1 {
		return all[0]
	}
	joined, texts := &node{op: opAnd}, make([]string, len(all))
	for i, e := range all {
		joined.parts, texts[i] = append(joined.parts, e.root), "("+e.text+")"
	}
	return &Expr{text: strings.Join(texts, " and "), root: joined}
}

// Condition is an expression bound to a schema. It may be used by many goroutines.
type Condition struct {
	Columns []string // that are looked at, each once
	root    *boundNode
}

// Bind binds the expression to the columns of a schema.
func (e *Expr) Bind(schema *arrow.Schema) (*Condition, error) {
	root, err := bind(e.root, schema)
	if err != nil {
		return nil, err
	}
	return &Condition{e.Columns(), root}, nil
}

// Holds returns for each row whether the condition is true. Column returns a column's
// rows, in the type that it was bound to or in the one that a table keeps of it.
func (c *Condition) Holds(rows int, column func(name string) arrow.Array) ([]bool, error) {
	all, err := c.outcomesOf(rows, column)
	if err != nil {
		return nil, err
	}
	out := make([]bool, len(all))
	for i, o := range all {
		out[i] = o == holds
	}
	return out, nil
}

// String returns the text that was parsed.
func (e *Expr) String() string { return e.text }

type operator int

const (
	opAnd operator = iota
	opOr
	opNot
	opEq
	opNe
	opLt
	opLe
	opGt
	opGe
	opIn
	opNull
	opAll  // true where the column is not null
	opNone // false where the column is not null
)

// node is a part of an expression. And, or and not have parts of their own; all
// else is about one column.
type node struct {
	op     operator
	parts  []*node
	column string

	against bool // it is compared to another column, not to values
	other   string

	values []literal
	offset int
}

// Filter returns the rows of a batch for which the expression is true. The caller
// releases what it returns.
func (e *Expr) Filter(_ context.Context, batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	c, err := e.of(batch.Schema())
	if err != nil {
		return nil, err
	}
	keep, err := c.Holds(int(batch.NumRows()), columnsOf(batch))
	if err != nil {
		return nil, err
	}
	out, err := take.Where(batch, keep)
	if err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	return out, nil
}

// of returns the expression bound to a schema.
func (e *Expr) of(schema *arrow.Schema) (*Condition, error) {
	if was := e.bound.Load(); was != nil && was.schema == schema {
		return was.condition, nil
	}
	c, err := e.Bind(schema)
	if err == nil {
		e.bound.Store(&boundTo{schema, c})
	}
	return c, err
}

func columnsOf(batch arrow.RecordBatch) func(string) arrow.Array {
	return func(name string) arrow.Array { return batch.Column(batch.Schema().FieldIndices(name)[0]) }
}
