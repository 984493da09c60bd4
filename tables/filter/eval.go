package filter

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/scalar"

	"github.com/go-partd/partd/tables/internal/arrowtypes"
)

// functions are Arrow's. Those for and, or and not have three values. A column
// equals itself where it is not null; one that may hold a NaN never gets there.
var functions = map[operator]string{
	opAnd: "and_kleene", opOr: "or_kleene", opNot: "not", opIn: "is_in", opAll: "equal", opNone: "not_equal",
	opEq: "equal", opNe: "not_equal", opLt: "less", opLe: "less_equal", opGt: "greater", opGe: "greater_equal",
}

// columns gathers the columns that are looked at, as what they are compared as.
func (n *boundNode) columns(batch arrow.RecordBatch, to map[int]arrow.Array) error {
	for _, part := range n.parts {
		if err := part.columns(batch, to); err != nil {
			return err
		}
	}
	if len(n.parts) > 0 {
		return nil
	}
	if err := gather(batch, n.column, n.as, to); err != nil || !n.against {
		return err
	}
	return gather(batch, n.other, n.otherAs, to)
}

func gather(batch arrow.RecordBatch, at int, as arrow.DataType, to map[int]arrow.Array) error {
	if _, done := to[at]; done {
		return nil
	}
	column := batch.Column(at)
	if as == nil {
		column.Retain()
		to[at] = column
		return nil
	}
	converted, err := arrowtypes.ConvertArray(column, as)
	if err != nil {
		return fmt.Errorf("filter: column %q: %w", batch.ColumnName(at), err)
	}
	to[at] = converted
	return nil
}

// eval returns whether a node is true for each row, or null.
func (n *boundNode) eval(ctx context.Context, columns map[int]arrow.Array) (arrow.Array, error) {
	if len(n.parts) == 0 {
		return n.compare(ctx, columns[n.column], columns[n.other])
	}
	out, err := n.parts[0].eval(ctx, columns)
	if err != nil {
		return nil, err
	}
	if n.op == opNot {
		defer out.Release()
		return call(ctx, opNot, nil, out)
	}
	for _, part := range n.parts[1:] {
		next, err := part.eval(ctx, columns)
		if err == nil {
			var both arrow.Array
			both, err = call(ctx, n.op, nil, out, next)
			next.Release()
			out.Release()
			out = both
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (n *boundNode) compare(ctx context.Context, column, other arrow.Array) (arrow.Array, error) {
	if n.against {
		a, err := compute.CastArray(ctx, column, compute.UnsafeCastOptions(n.common))
		if err != nil {
			return nil, err
		}
		defer a.Release()
		b, err := compute.CastArray(ctx, other, compute.UnsafeCastOptions(n.common))
		if err != nil {
			return nil, err
		}
		defer b.Release()
		return call(ctx, n.op, nil, a, b)
	}
	switch n.op {
	case opNull: // Arrow's is_null panics at decimals
		b := array.NewBooleanBuilder(memory.DefaultAllocator)
		defer b.Release()
		for i := range column.Len() {
			b.Append(column.IsNull(i))
		}
		return b.NewArray(), nil
	case opAll, opNone:
		return call(ctx, n.op, nil, column, column)
	case opIn:
		b := array.NewBuilder(memory.DefaultAllocator, n.as)
		defer b.Release()
		for _, v := range n.values {
			if err := scalar.Append(b, v.row); err != nil {
				return nil, err
			}
		}
		set := b.NewArray()
		defer set.Release()
		return call(ctx, n.op, &compute.SetOptions{ValueSet: compute.NewDatumWithoutOwning(set), NullBehavior: compute.NullMatchingEmitNull}, column)
	}
	return call(ctx, n.op, nil, column, n.values[0].row)
}

// call calls one of Arrow's functions with arrays and scalars.
func call(ctx context.Context, op operator, options compute.FunctionOptions, args ...any) (arrow.Array, error) {
	data := make([]compute.Datum, len(args))
	for i, arg := range args {
		data[i] = compute.NewDatumWithoutOwning(arg)
	}
	out, err := compute.CallFunction(ctx, functions[op], options, data...)
	if err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	defer out.Release()
	return out.(*compute.ArrayDatum).MakeArray(), nil
}
