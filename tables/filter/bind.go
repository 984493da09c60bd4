package filter

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/iceberg-go"
)

// boundNode is a node whose column is known, and whose values have its type.
type boundNode struct {
	op     operator
	parts  []*boundNode
	column int
	name   string
	test   test
	// Iceberg's library fails, or panics, where decimals and nested values are
	// looked at for nulls.
	nullsKept bool
}

// maxNamed bounds how many columns an error names.
const maxNamed = 30

func bind(n *node, schema *arrow.Schema) (*boundNode, error) {
	out := &boundNode{op: n.op, name: n.column}
	for _, part := range n.parts {
		bound, err := bind(part, schema)
		if err != nil {
			return nil, err
		}
		out.parts = append(out.parts, bound)
	}
	if len(n.parts) > 0 {
		return out, nil
	}
	found := schema.FieldIndices(n.column)
	if len(found) != 1 {
		var names []string
		for _, f := range schema.Fields()[:min(schema.NumFields(), maxNamed)] {
			names = append(names, fmt.Sprintf("%q", f.Name))
		}
		if schema.NumFields() > maxNamed {
			names = append(names, "…")
		}
		return nil, fmt.Errorf("filter: position %d: there are %d columns %q; the columns are %s",
			n.offset+1, len(found), n.column, strings.Join(names, ", "))
	}
	out.column = found[0]
	t := plainType(schema.Field(out.column).Type)
	out.nullsKept = arrow.IsDecimal(t.ID()) || t.ID() == arrow.UINT64 || arrow.IsNested(t.ID())
	if n.op == opNull || n.op == opNotNull {
		return out, nil
	}
	var err error
	out.test, err = bindTest(n, t)
	return out, err
}

// plainType is the type of a column's values, however they are packed.
func plainType(t arrow.DataType) arrow.DataType {
	for {
		switch of := t.(type) {
		case *arrow.DictionaryType:
			t = of.ValueType
		case arrow.ExtensionType:
			t = of.StorageType()
		default:
			return t
		}
	}
}

// bindTest makes the test of a column's values.
func bindTest(n *node, t arrow.DataType) (test, error) {
	switch t := t.(type) {
	case *arrow.BooleanType:
		return bindValues(n, literalBool, t, &leaf[int64]{compare: compareOrdered[int64], read: readInt, literal: func(v int64) iceberg.Literal { return iceberg.NewLiteral(v == 1) }},
			func(l literal) (int64, error) {
				if l.truth {
					return 1, nil
				}
				return 0, nil
			})
	case *arrow.StringType, *arrow.LargeStringType, *arrow.StringViewType, *arrow.BinaryType, *arrow.LargeBinaryType, *arrow.BinaryViewType:
		literal := func(l literal) (string, error) { return l.text, nil }
		return bindValues(n, literalText, t, &leaf[string]{compare: strings.Compare, read: readText, literal: textLiteral(t)}, literal)
	case *arrow.Float64Type:
		return bindValues(n, literalNumber, t, &leaf[float64]{compare: compareFloats, read: readFloat, floats: true, literal: newLiteral[float64]},
			func(l literal) (float64, error) { f, _ := l.number.Float64(); return f, nil })
	case *arrow.Float32Type, *arrow.Float16Type: // Iceberg keeps both as the first
		return bindValues(n, literalNumber, t, &leaf[float64]{
			compare: compareFloats, read: readFloat, floats: true,
			literal: func(v float64) iceberg.Literal { return iceberg.NewLiteral(float32(v)) },
		}, func(l literal) (float64, error) { f, _ := l.number.Float32(); return float64(f), nil })
	case *arrow.Uint64Type:
		return bindExact(n, literalNumber, t, &leaf[uint64]{compare: compareOrdered[uint64], read: readUint64, literal: func(v uint64) iceberg.Literal {
			return iceberg.NewLiteral(iceberg.Decimal{Val: decimal128.FromU64(v)})
		}}, rational, (*big.Int).IsUint64, (*big.Int).Uint64)
	case *arrow.Decimal32Type, *arrow.Decimal64Type, *arrow.Decimal128Type:
		scale := t.(arrow.DecimalType).GetScale()
		fits := func(v *big.Int) bool { return v.BitLen() < 127 }
		return bindExact(n, literalNumber, t, &leaf[decimal128.Num]{compare: decimal128.Num.Cmp, read: readDecimal, literal: func(v decimal128.Num) iceberg.Literal {
			return iceberg.NewLiteral(iceberg.Decimal{Val: v, Scale: int(scale)})
		}}, func(l literal) (*big.Rat, error) { return scaled(l.number, int(scale)), nil }, fits, decimal128.FromBigInt)
	}
	whole := &leaf[int64]{compare: compareOrdered[int64], read: readInt, literal: newLiteral[int64]}
	if arrow.IsInteger(t.ID()) || t.ID() == arrow.DURATION {
		return bindExact(n, literalNumber, t, whole, rational, (*big.Int).IsInt64, (*big.Int).Int64)
	}
	if value := timeValue(t); value != nil {
		whole.literal = timeLiteral(t)
		return bindExact(n, literalText, t, whole, value, (*big.Int).IsInt64, (*big.Int).Int64)
	}
	return nil, fmt.Errorf("filter: position %d: column %q is %s, which can only be compared by is null and is not null", n.offset+1, n.column, t)
}

func rational(l literal) (*big.Rat, error) { return l.number, nil }

// scaled multiplies by a power of ten.
func scaled(r *big.Rat, scale int) *big.Rat {
	factor := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(scale, -scale))), nil))
	if scale < 0 {
		factor.Inv(factor)
	}
	return factor.Mul(factor, r)
}

// wrongKind is the error for a value of another kind than the column's.
func wrongKind(n *node, l literal, t arrow.DataType) error {
	want := map[literalKind]string{literalText: "a text in single quotes", literalNumber: "a number", literalBool: "true or false"}
	kind := literalText
	switch {
	case t.ID() == arrow.BOOL:
		kind = literalBool
	case t.ID() == arrow.DURATION || arrow.IsInteger(t.ID()) || arrow.IsFloating(t.ID()) || arrow.IsDecimal(t.ID()):
		kind = literalNumber
	}
	return fmt.Errorf("filter: position %d: column %q is %s: it is compared to %s, not to %.40s", l.offset+1, n.column, t, want[kind], l)
}

// bindValues converts values of which each stands for one of the column's type.
func bindValues[T any](n *node, kind literalKind, t arrow.DataType, f *leaf[T], convert func(literal) (T, error)) (test, error) {
	f.op = n.op
	for _, l := range n.values {
		if l.kind != kind {
			return nil, wrongKind(n, l, t)
		}
		v, err := convert(l)
		if err != nil {
			return nil, fmt.Errorf("filter: position %d: column %q is %s: %w", l.offset+1, n.column, t, err)
		}
		f.values = append(f.values, v)
	}
	slices.SortFunc(f.values, f.compare)
	return f, nil
}

// bindExact converts values to a type that has no fractions and is not without
// end. A value between two of the type, or beyond all, is no value of it, but the
// comparison still means something: x > 1.5 is x > 1, and x < 300 always holds
// for a byte.
func bindExact[T any](n *node, kind literalKind, t arrow.DataType, f *leaf[T], rat func(literal) (*big.Rat, error), fits func(*big.Int) bool, convert func(*big.Int) T) (test, error) {
	f.op = n.op
	for _, l := range n.values {
		if l.kind != kind {
			return nil, wrongKind(n, l, t)
		}
		r, err := rat(l)
		if err != nil {
			return nil, fmt.Errorf("filter: position %d: column %q is %s: %w", l.offset+1, n.column, t, err)
		}
		floor := new(big.Int).Div(r.Num(), r.Denom()) // rounds down, as the denominator is positive
		if n.op == opIn || n.op == opNotIn {
			if r.IsInt() && fits(floor) {
				f.values = append(f.values, convert(floor))
			}
			continue
		}
		if !fits(floor) {
			return always(n.op == opNe || (floor.Sign() > 0) == (n.op == opLt || n.op == opLe) && n.op != opEq), nil
		}
		if !r.IsInt() {
			switch n.op {
			case opEq, opNe:
				return always(n.op == opNe), nil
			case opLt:
				f.op = opLe
			case opGe:
				f.op = opGt
			}
		}
		f.values = append(f.values, convert(floor))
	}
	if len(f.values) == 0 {
		return always(n.op == opNotIn), nil
	}
	slices.SortFunc(f.values, f.compare)
	return f, nil
}

// compareFloats returns 2 if one is not a number.
func compareFloats(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	case a == b:
		return 0
	}
	return 2
}

func newLiteral[T int64 | float64](v T) iceberg.Literal { return iceberg.NewLiteral(v) }

// textLiteral puts texts as Iceberg's. Bytes are left to the rows.
func textLiteral(t arrow.DataType) func(string) iceberg.Literal {
	if arrow.IsBaseBinary(t.ID()) && !strings.Contains(t.Name(), "utf8") && t.ID() != arrow.STRING_VIEW {
		return func(string) iceberg.Literal { return nil }
	}
	return func(v string) iceberg.Literal { return iceberg.NewLiteral(v) }
}

// timeLiteral puts whole units of a time as Iceberg's.
func timeLiteral(t arrow.DataType) func(int64) iceberg.Literal {
	return func(v int64) iceberg.Literal {
		var unit arrow.TimeUnit
		switch t := t.(type) {
		case *arrow.Date32Type:
			if v != int64(int32(v)) {
				return nil
			}
			return iceberg.NewLiteral(iceberg.Date(v))
		case *arrow.TimestampType:
			unit = t.Unit
		case *arrow.Time32Type:
			unit = t.Unit
		case *arrow.Time64Type:
			unit = t.Unit
		default:
			return nil
		}
		_, timestamp := t.(*arrow.TimestampType)
		if unit == arrow.Nanosecond {
			if timestamp {
				return iceberg.NewLiteral(iceberg.TimestampNano(v))
			}
			return nil
		}
		factor := int64(unit.Multiplier() / arrow.Microsecond.Multiplier())
		if v > math.MaxInt64/factor || v < math.MinInt64/factor {
			return nil
		}
		if timestamp {
			return iceberg.NewLiteral(iceberg.Timestamp(v * factor))
		}
		return iceberg.NewLiteral(iceberg.Time(v * factor))
	}
}
