// Package filter selects rows by conditions on their columns. The syntax resembles SQL's:
//
//	price > 100 and sym in ('A', 'B')
//
// Parse an expression, or build one from values, and apply it to record batches. With [Condition.May], scans
// also skip files and row groups where no row can match.
//
// Logic is three-valued, as in SQL: a comparison with a null is neither true nor false, and
// a row is kept only if the whole expression is true for it. A NaN is neither equal to, less
// than nor greater than any number. docs/filter.md has the grammar.
package filter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/base/where"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// SyntaxError describes a mistake in the text of an expression.
type SyntaxError struct {
	Offset int // offset in bytes from the start of the text
	Msg    string
}

func (e *SyntaxError) Error() string { return (*where.SyntaxError)(e).Error() }

// Parse parses an expression. Its error is a [*SyntaxError].
func Parse(text string) (*Expr, error) {
	root, err := where.Parse(text)
	if err != nil {
		return nil, asSyntaxError(err)
	}
	return &Expr{text: text, root: root}, nil
}

func asSyntaxError(err error) error {
	if e := (*where.SyntaxError)(nil); errors.As(err, &e) {
		return (*SyntaxError)(e)
	}
	return err
}

// Expr is an expression, such as the filter of a scan. It is safe for concurrent use.
type Expr struct {
	text  string
	root  *node
	err   error                          // a mistake in building the expression, which Bind returns
	bound atomic.Pointer[boundCondition] // the result of Bind for Filter's last batch
}

type boundCondition struct {
	schema    *arrow.Schema
	condition *Condition
}

// Columns returns the names of the columns that the expression uses, without duplicates.
func (e *Expr) Columns() []string {
	if e == nil {
		return nil
	}
	return e.root.Columns(nil)
}

// Condition is an expression bound to a schema. Nil and the zero value are true for all rows. A Condition is safe for
// concurrent use.
type Condition struct {
	Columns []string // names of the columns that the condition uses, without duplicates
	root    *boundNode
}

// Bind binds the expression to the columns of a schema. A nil Expr is true for all rows.
func (e *Expr) Bind(schema *arrow.Schema) (*Condition, error) {
	if e == nil {
		return &Condition{}, nil
	}
	if e.err != nil {
		return nil, e.err
	}
	root, err := bind(e.root, schema)
	if err != nil {
		return nil, err
	}
	return &Condition{e.Columns(), root}, nil
}

// Holds reports for each row whether the condition is true. column must return the named column's values. Their type
// must be the column's type in the bound schema, or the type in which files store the column.
func (c *Condition) Holds(rows int, column func(name string) arrow.Array) ([]bool, error) {
	if c == nil || c.root == nil {
		return slices.Repeat([]bool{true}, rows), nil
	}
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

// String returns the parsed text or, for an expression that was built from values, an equivalent text.
func (e *Expr) String() string {
	if e == nil {
		return ""
	}
	return e.text
}

// MarshalText returns the expression's text. It returns an error if the expression was built from an invalid argument.
func (e *Expr) MarshalText() ([]byte, error) { return []byte(e.text), e.err }

// UnmarshalText parses an expression, unless text is empty. Its error is a [*SyntaxError].
func (e *Expr) UnmarshalText(text []byte) error {
	if len(text) == 0 { // then e must not be used: the caller must replace it by nil
		return nil
	}
	parsed, err := Parse(string(text))
	if err == nil {
		e.text, e.root, e.err = parsed.text, parsed.root, nil
		e.bound.Store(nil)
	}
	return err
}

type (
	node     = where.Node
	literal  = where.Literal
	operator = where.Operator
)

// Operators that only bound nodes have.
const (
	opAll  = where.Operators + iota // true where the column is not null
	opNone                          // false where the column is not null
)

// Filter returns the rows of a batch where the expression is true. The caller must release the result.
func (e *Expr) Filter(_ context.Context, batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	c, err := e.boundFor(batch.Schema())
	if err != nil {
		return nil, err
	}
	keep, err := c.Holds(int(batch.NumRows()), func(name string) arrow.Array { return batch.Column(batch.Schema().FieldIndices(name)[0]) })
	if err != nil {
		return nil, err
	}
	out, err := take.Where(batch, keep)
	if err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	return out, nil
}

// boundFor returns the result of Bind, which it caches for the last schema.
func (e *Expr) boundFor(schema *arrow.Schema) (*Condition, error) {
	if e == nil {
		return e.Bind(schema)
	}
	if last := e.bound.Load(); last != nil && last.schema == schema {
		return last.condition, nil
	}
	c, err := e.Bind(schema)
	if err != nil {
		return c, err
	}
	e.bound.Store(&boundCondition{schema, c})
	return c, nil
}
