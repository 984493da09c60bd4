package filter

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
)

// iceberg translates a node, or its opposite, to an expression of the columns'
// names that lets through all that the node keeps, and perhaps more. Nots are
// moved down to the columns: what cannot be translated is there replaced by what
// is always true, whose opposite would let nothing through.
//
// Iceberg's library believes that a row group with as many nulls as values has
// nulls alone: in groups, one with any null is let through.
func (b *boundNode) iceberg(negated, groups bool) iceberg.BooleanExpression {
	if groups && len(b.parts) == 0 && (b.op != opNull || negated) {
		return iceberg.NewOr(b.iceberg(negated, false), b.null(true))
	}
	switch b.op {
	case opNot:
		return b.parts[0].iceberg(!negated, groups)
	case opAnd, opOr:
		all := make([]iceberg.BooleanExpression, len(b.parts))
		for i, part := range b.parts {
			all[i] = part.iceberg(negated, groups)
		}
		return joined((b.op == opAnd) != negated, all)
	case opNull:
		return b.null(!negated)
	case opAll, opNone:
		if (b.op == opNone) != negated {
			return iceberg.AlwaysFalse{}
		}
		return b.null(false)
	}
	return b.comparison(negated)
}

// null is the condition that the column is null, or that it is not. Iceberg's
// library fails, or panics, where decimals and nested values are looked at for
// nulls.
func (b *boundNode) null(is bool) iceberg.BooleanExpression {
	switch {
	case b.as == nil || arrow.IsDecimal(b.as.ID()):
		return iceberg.AlwaysTrue{}
	case is:
		return iceberg.IsNull(iceberg.Reference(b.name))
	}
	return iceberg.NotNull(iceberg.Reference(b.name))
}

// unknown lets through all rows for which the node is null, and perhaps more.
func (b *boundNode) unknown() iceberg.BooleanExpression {
	if len(b.parts) == 0 {
		return b.null(true)
	}
	all := make([]iceberg.BooleanExpression, len(b.parts))
	for i, part := range b.parts {
		all[i] = part.unknown()
	}
	return joined(false, all)
}

// joined joins expressions as a balanced tree, which is not deep however many
// they are.
func joined(and bool, all []iceberg.BooleanExpression) iceberg.BooleanExpression {
	if len(all) == 1 {
		return all[0]
	}
	left, right := joined(and, all[:len(all)/2]), joined(and, all[len(all)/2:])
	if and {
		return iceberg.NewAnd(left, right)
	}
	return iceberg.NewOr(left, right)
}

// operations are Iceberg's for a comparison, and for its opposite.
var operations = map[operator][2]iceberg.Operation{
	opEq: {iceberg.OpEQ, iceberg.OpNEQ}, opNe: {iceberg.OpNEQ, iceberg.OpEQ}, opIn: {iceberg.OpIn, iceberg.OpNotIn},
	opLt: {iceberg.OpLT, iceberg.OpGTEQ}, opGe: {iceberg.OpGTEQ, iceberg.OpLT},
	opGt: {iceberg.OpGT, iceberg.OpLTEQ}, opLe: {iceberg.OpLTEQ, iceberg.OpGT},
}

func (b *boundNode) comparison(negated bool) iceberg.BooleanExpression {
	if b.against {
		return b.null(false)
	}
	reference := iceberg.Reference(b.name)
	literals := make([]iceberg.Literal, len(b.values))
	for i, v := range b.values {
		if literals[i] = v.iceberg; v.iceberg == nil {
			return b.null(false)
		}
	}
	op := operations[b.op][0]
	if negated {
		op = operations[b.op][1]
	}
	if b.op == opIn {
		return iceberg.SetPredicate(op, reference, literals)
	}
	var out iceberg.BooleanExpression = iceberg.LiteralPredicate(op, reference, literals[0])
	if negated && arrow.IsFloating(b.as.ID()) && b.op != opEq && b.op != opNe {
		// Not x > 1 holds for a NaN, and x <= 1 does not.
		out = iceberg.NewOr(out, iceberg.IsNaN(reference))
	}
	return out
}
