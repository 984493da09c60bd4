// Package filter selects rows by an expression such as
//
//	price > 100 and sym in ('A', 'B')
//
// An expression is parsed, and then applied to record batches. For scans it is also
// put as an Iceberg expression that lets through at least as many rows, by which
// files and row groups are left out; what [Expr.Filter] says of a row is what counts.
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
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
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
	root   *boundNode
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

// Iceberg returns the expression as one of Iceberg's, of the columns' names, for
// leaving out files of a table that gives its readers this schema. What it lets
// through is all that Filter keeps, and perhaps more.
func (e *Expr) Iceberg(schema *arrow.Schema) (iceberg.BooleanExpression, error) {
	root, err := bind(e.root, schema)
	if err != nil {
		return nil, err
	}
	return root.iceberg(false, false), nil
}

// IcebergGroups is Iceberg for leaving out row groups of a file.
func (e *Expr) IcebergGroups(schema *arrow.Schema) (iceberg.BooleanExpression, error) {
	root, err := bind(e.root, schema)
	if err != nil {
		return nil, err
	}
	return root.iceberg(false, true), nil
}

// IcebergRest is Iceberg for the other rows: it lets through all that Filter does
// not keep, for which the expression is false or null, and perhaps more.
func (e *Expr) IcebergRest(schema *arrow.Schema) (iceberg.BooleanExpression, error) {
	root, err := bind(e.root, schema)
	if err != nil {
		return nil, err
	}
	return iceberg.NewOr(root.iceberg(true, false), root.unknown()), nil
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
func (e *Expr) Filter(ctx context.Context, batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	kept, err := e.Mask(ctx, batch)
	if err != nil {
		return nil, err
	}
	defer kept.Release()
	return Select(ctx, batch, kept)
}

// Mask returns for each row of a batch whether the expression is true, or null. The
// caller releases what it returns.
func (e *Expr) Mask(ctx context.Context, batch arrow.RecordBatch) (*array.Boolean, error) {
	bound := e.bound.Load()
	if bound == nil || bound.schema != batch.Schema() {
		root, err := bind(e.root, batch.Schema())
		if err != nil {
			return nil, err
		}
		bound = &boundTo{batch.Schema(), root}
		e.bound.Store(bound)
	}
	looked := map[int]arrow.Array{}
	defer func() {
		for _, column := range looked {
			column.Release()
		}
	}()
	if err := bound.root.columns(batch, looked); err != nil {
		return nil, err
	}
	mask, err := bound.root.eval(ctx, looked)
	if err != nil {
		return nil, err
	}
	return mask.(*array.Boolean), nil
}

// Select returns the rows of a batch for which a mask is true. The caller releases
// what it returns.
func Select(ctx context.Context, batch arrow.RecordBatch, kept *array.Boolean) (arrow.RecordBatch, error) {
	if kept.Len() == 0 || kept.NullN() == 0 && bitutil.CountSetBits(kept.Data().Buffers()[1].Bytes(), kept.Data().Offset(), kept.Len()) == kept.Len() {
		batch.Retain()
		return batch, nil
	}
	columns := make([]arrow.Array, batch.NumCols())
	for i, column := range batch.Columns() {
		out, err := compute.FilterArray(ctx, column, kept, *compute.DefaultFilterOptions())
		if errors.Is(err, arrow.ErrNotImplemented) {
			out, err = selectRuns(column, kept)
		}
		if err != nil {
			return nil, fmt.Errorf("filter: column %q: %w", batch.ColumnName(i), err)
		}
		defer out.Release()
		columns[i] = out
	}
	return array.NewRecordBatch(batch.Schema(), columns, int64(columns[0].Len())), nil
}

// selectRuns does for types that Arrow's library cannot filter what it does for
// others.
func selectRuns(column arrow.Array, kept *array.Boolean) (arrow.Array, error) {
	runs := []arrow.Array{array.NewSlice(column, 0, 0)}
	keeps := func(i int) bool { return kept.IsValid(i) && kept.Value(i) }
	for i := 0; i < kept.Len(); i++ {
		start := i
		for i < kept.Len() && keeps(i) {
			i++
		}
		if i > start {
			runs = append(runs, array.NewSlice(column, int64(start), int64(i)))
		}
	}
	defer func() {
		for _, run := range runs {
			run.Release()
		}
	}()
	return array.Concatenate(runs, memory.DefaultAllocator)
}
