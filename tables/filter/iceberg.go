package filter

import "github.com/apache/iceberg-go"

type (
	expression   = iceberg.BooleanExpression
	literalValue = iceberg.Literal
)

// Iceberg returns the expression as one of Iceberg's, of the columns' names, for
// leaving out files and row groups. What it lets through is all that Apply keeps,
// and perhaps more.
func (b *Bound) Iceberg() iceberg.BooleanExpression { return b.root.iceberg(false) }

// iceberg translates a node, or its opposite. Nots are moved down to the columns:
// what cannot be translated is there replaced by what is always true, whose
// opposite would let nothing through.
func (n *boundNode) iceberg(negated bool) expression {
	switch n.op {
	case opNot:
		return n.parts[0].iceberg(!negated)
	case opAnd, opOr:
		all := make([]expression, len(n.parts))
		for i, part := range n.parts {
			all[i] = part.iceberg(negated)
		}
		return joined((n.op == opAnd) != negated, all)
	case opNull, opNotNull:
		return n.null((n.op == opNull) != negated)
	}
	return n.test.iceberg(n, negated)
}

// null is the condition that the column is null, or that it is not.
func (n *boundNode) null(is bool) expression {
	switch {
	case n.nullsKept:
		return iceberg.AlwaysTrue{}
	case is:
		return iceberg.IsNull(iceberg.Reference(n.name))
	}
	return iceberg.NotNull(iceberg.Reference(n.name))
}

// joined joins expressions as a balanced tree, which is not deep however many
// they are.
func joined(and bool, all []expression) expression {
	if len(all) == 1 {
		return all[0]
	}
	left, right := joined(and, all[:len(all)/2]), joined(and, all[len(all)/2:])
	if and {
		return iceberg.NewAnd(left, right)
	}
	return iceberg.NewOr(left, right)
}

func (a always) iceberg(n *boundNode, negated bool) expression {
	if bool(a) == negated {
		return iceberg.AlwaysFalse{}
	}
	return n.null(false)
}

var opposites = map[operator]operator{opEq: opNe, opNe: opEq, opLt: opGe, opLe: opGt, opGt: opLe, opGe: opLt, opIn: opNotIn, opNotIn: opIn}

var operations = map[operator]iceberg.Operation{
	opEq: iceberg.OpEQ, opNe: iceberg.OpNEQ, opLt: iceberg.OpLT, opLe: iceberg.OpLTEQ,
	opGt: iceberg.OpGT, opGe: iceberg.OpGTEQ, opIn: iceberg.OpIn, opNotIn: iceberg.OpNotIn,
}

func (f *leaf[T]) iceberg(n *boundNode, negated bool) expression {
	reference := iceberg.Reference(n.name)
	literals := make([]literalValue, len(f.values))
	for i, v := range f.values {
		if literals[i] = f.literal(v); literals[i] == nil {
			return n.null(false)
		}
	}
	op := f.op
	if negated {
		op = opposites[op]
	}
	if op == opIn || op == opNotIn {
		return iceberg.SetPredicate(operations[op], reference, literals)
	}
	var out expression = iceberg.LiteralPredicate(operations[op], reference, literals[0])
	if f.floats && negated && op != opEq && op != opNe {
		// Not x > 1 holds for a NaN, and x <= 1 does not.
		out = iceberg.NewOr(out, iceberg.IsNaN(reference))
	}
	return out
}
