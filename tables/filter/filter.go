// Package filter selects rows by an expression such as
//
//	price > 100 and sym in ('A', 'B')
//
// An expression is parsed, bound to the schema that it is for, and then applied
// to record batches. For scans it is also put as an Iceberg expression that lets
// through at least as many rows, by which files and row groups are left out; what
// [Bound.Apply] says of a row is what counts.
//
// Logic has three values, as SQL's: a comparison with a null is neither true nor
// false, and only rows for which the whole is true are kept. A NaN is unequal to
// every number, and neither less nor greater. The grammar is in docs/filter.md.
package filter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
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
	schema *arrow.Schema
	bound  *Bound
}

// Columns returns the names of the columns that are looked at, each once.
func (e *Expr) Columns() []string { return e.root.columns(nil) }

func (n *node) columns(to []string) []string {
	for _, part := range n.parts {
		to = part.columns(to)
	}
	if len(n.parts) > 0 || slices.Contains(to, n.column) {
		return to
	}
	return append(to, n.column)
}

// Filter returns the rows of a batch for which the expression is true. The caller
// releases what it returns.
func (e *Expr) Filter(ctx context.Context, batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	last := e.bound.Load()
	if last == nil || last.schema != batch.Schema() {
		bound, err := e.Bind(batch.Schema())
		if err != nil {
			return nil, err
		}
		last = &boundTo{batch.Schema(), bound}
		e.bound.Store(last)
	}
	return last.bound.Apply(ctx, batch)
}

// Iceberg returns the expression as one of Iceberg's; see [Bound.Iceberg].
func (e *Expr) Iceberg(schema *iceberg.Schema) (iceberg.BooleanExpression, error) {
	stored, err := table.SchemaToArrowSchema(schema, nil, false, false)
	if err != nil {
		return nil, fmt.Errorf("filter: the schema in Arrow's types: %w", err)
	}
	b, err := e.Bind(stored)
	if err != nil {
		return nil, err
	}
	return b.Iceberg(), nil
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
	opNotIn
	opNull
	opNotNull
)

// node is a part of an expression. And, or and not have parts of their own; all
// else is about one column.
type node struct {
	op     operator
	parts  []*node
	column string
	values []literal
	offset int
}

// Bound is an expression bound to a schema. It may be used by many goroutines.
type Bound struct{ root *boundNode }

// Bind binds an expression to the schema of the batches that it is for. The
// error for a column that is not there names those that are.
func (e *Expr) Bind(schema *arrow.Schema) (*Bound, error) {
	root, err := bind(e.root, schema)
	if err != nil {
		return nil, err
	}
	return &Bound{root}, nil
}

// Apply returns the rows of a batch for which the expression is true. The caller
// releases what it returns.
func (b *Bound) Apply(ctx context.Context, batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	kept := b.root.eval(batch)
	mask := array.NewBooleanBuilder(memory.DefaultAllocator)
	defer mask.Release()
	mask.Reserve(len(kept))
	n := 0
	for _, k := range kept {
		mask.UnsafeAppend(k == isTrue)
		if k == isTrue {
			n++
		}
	}
	switch n {
	case len(kept):
		batch.Retain()
		return batch, nil
	case 0:
		return batch.NewSlice(0, 0), nil
	}
	selected := mask.NewBooleanArray()
	defer selected.Release()
	columns := make([]arrow.Array, batch.NumCols())
	for i, column := range batch.Columns() {
		out, err := compute.FilterArray(ctx, column, selected, *compute.DefaultFilterOptions())
		if errors.Is(err, arrow.ErrNotImplemented) {
			out, err = selectRuns(column, kept)
		}
		if err != nil {
			return nil, fmt.Errorf("filter: column %q: %w", batch.ColumnName(i), err)
		}
		defer out.Release()
		columns[i] = out
	}
	return array.NewRecordBatch(batch.Schema(), columns, int64(n)), nil
}

// selectRuns does for types that Arrow's library cannot filter what it does for
// others.
func selectRuns(column arrow.Array, kept []byte) (arrow.Array, error) {
	var runs []arrow.Array
	for i := 0; i < len(kept); i++ {
		if kept[i] != isTrue {
			continue
		}
		start := i
		for i < len(kept) && kept[i] == isTrue {
			i++
		}
		run := array.NewSlice(column, int64(start), int64(i))
		defer run.Release()
		runs = append(runs, run)
	}
	return array.Concatenate(runs, memory.DefaultAllocator)
}
