package filter

import (
	"fmt"
	"math"
	"math/big"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/scalar"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/tables/internal/arrowtypes"
)

// boundNode is a node whose column is known, and whose values have its type.
type boundNode struct {
	op     operator
	parts  []*boundNode
	column int
	name   string
	as     arrow.DataType // as which the column is compared; nil if it cannot be
	values []value

	against bool // it is compared to another column
	other   int
	otherAs arrow.DataType
	common  arrow.DataType // as which both are
}

// value is a value of a column's type, for rows and for Iceberg.
type value struct {
	row     scalar.Scalar
	iceberg iceberg.Literal // nil if the rows have to be looked at
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
	var err error
	var t arrow.DataType
	if out.column, t, out.as, err = n.find(n.column, schema); err != nil || n.op == opNull {
		return out, err
	}
	if !n.against {
		return out, out.bindValues(n, t)
	}
	var other arrow.DataType
	if out.other, other, out.otherAs, err = n.find(n.other, schema); err != nil {
		return nil, err
	}
	out.against = true
	if out.common = common(out.as, out.otherAs); out.common == nil {
		return nil, fmt.Errorf("filter: position %d: column %q is %s and column %q %s, which cannot be compared", n.offset+1, n.column, t, n.other, other)
	}
	return out, nil
}

// find returns where a column is, the type of its values, and that as which they are
// compared.
func (n *node) find(column string, schema *arrow.Schema) (at int, t, as arrow.DataType, err error) {
	found := schema.FieldIndices(column)
	if len(found) != 1 {
		var names []string
		for _, f := range schema.Fields()[:min(schema.NumFields(), maxNamed)] {
			names = append(names, fmt.Sprintf("%q", f.Name))
		}
		if schema.NumFields() > maxNamed {
			names = append(names, "…")
		}
		hint := ""
		if n.against && column == n.other {
			hint = "; a text is in single quotes"
		}
		return 0, nil, nil, fmt.Errorf("filter: position %d: there are %d columns %q; the columns are %s%s",
			n.offset+1, len(found), column, strings.Join(names, ", "), hint)
	}
	t = plainType(schema.Field(found[0]).Type)
	if kept, err := arrowtypes.Kept(t); err == nil && !arrow.IsNested(kept.ID()) {
		as = kept
		if kept.ID() == arrow.BOOL { // which Arrow's library does not order
			as = arrow.PrimitiveTypes.Int32
		}
	}
	return found[0], t, as, nil
}

// common is the type as which values of two types are compared, nil if they cannot
// be. Integers and floats are compared as float64.
func common(a, b arrow.DataType) arrow.DataType {
	number := func(t arrow.DataType) bool { return arrow.IsInteger(t.ID()) || arrow.IsFloating(t.ID()) }
	switch {
	case a == nil || b == nil:
		return nil
	case arrow.TypeEqual(a, b):
		return a
	case arrow.IsInteger(a.ID()) && arrow.IsInteger(b.ID()):
		return arrow.PrimitiveTypes.Int64
	case number(a) && number(b):
		return arrow.PrimitiveTypes.Float64
	}
	return nil
}

// plainType is the type of a column's values, however they are packed.
func plainType(t arrow.DataType) arrow.DataType {
	for {
		switch of := t.(type) {
		case *arrow.DictionaryType:
			t = of.ValueType
		case *arrow.RunEndEncodedType:
			t = of.Encoded()
		case arrow.ExtensionType:
			t = of.StorageType()
		default:
			return t
		}
	}
}

// kindOf returns what the values of a column are compared to, and its name.
func kindOf(t arrow.DataType) (kind literalKind, name string) {
	switch id := t.ID(); {
	case id == arrow.BOOL:
		return literalBool, "true or false"
	case arrow.IsInteger(id), arrow.IsFloating(id), arrow.IsDecimal(id), id == arrow.DURATION:
		return literalNumber, "a number"
	case arrow.IsBaseBinary(id), id == arrow.STRING_VIEW, id == arrow.BINARY_VIEW, isTime(t):
		return literalText, "a text in single quotes"
	}
	return 0, ""
}

func (b *boundNode) bindValues(n *node, t arrow.DataType) error {
	want, name := kindOf(t)
	if b.as == nil || name == "" {
		return fmt.Errorf("filter: position %d: column %q is %s, which can only be compared by is null and is not null", n.offset+1, n.column, t)
	}
	for _, l := range n.values {
		if l.kind != want {
			return fmt.Errorf("filter: position %d: column %q is %s: it is compared to %s, not to %.40s", l.offset+1, n.column, t, name, l)
		}
		if err := b.bindValue(l, t); err != nil {
			return fmt.Errorf("filter: position %d: column %q is %s: %w", l.offset+1, n.column, t, err)
		}
	}
	if b.op == opIn && len(b.values) == 0 {
		b.op = opNone
	}
	return nil
}

func (b *boundNode) bindValue(l literal, t arrow.DataType) error {
	var v value
	switch b.as.(type) {
	case *arrow.StringType:
		v = value{scalar.NewStringScalar(l.text), iceberg.NewLiteral(l.text)}
	case *arrow.BinaryType:
		v.row = scalar.NewBinaryScalar(memory.NewBufferBytes([]byte(l.text)), b.as)
	case *arrow.Float32Type:
		f, _ := l.number.Float32()
		v = value{scalar.NewFloat32Scalar(f), iceberg.NewLiteral(f)}
		if f == 0 && b.op == opIn { // sets take the two zeros for different
			v.iceberg = nil
			b.values = append(b.values, value{row: scalar.NewFloat32Scalar(float32(math.Copysign(0, -1)))})
		}
	case *arrow.Float64Type:
		f, _ := l.number.Float64()
		v = value{scalar.NewFloat64Scalar(f), iceberg.NewLiteral(f)}
		if f == 0 && b.op == opIn {
			v.iceberg = nil
			b.values = append(b.values, value{row: scalar.NewFloat64Scalar(math.Copysign(0, -1))})
		}
	default:
		exact, err := rational(l, t, b.as)
		if err != nil {
			return err
		}
		b.bindExact(exact, t)
		return nil
	}
	b.values = append(b.values, v)
	return nil
}

// rational returns a value in the units of a column, not rounded.
func rational(l literal, t, as arrow.DataType) (*big.Rat, error) {
	switch {
	case l.kind == literalText:
		return timeValue(l, t, as)
	case l.truth:
		return big.NewRat(1, 1), nil
	case l.kind == literalBool:
		return new(big.Rat), nil
	}
	if d, ok := as.(*arrow.Decimal128Type); ok {
		scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.Scale)), nil)
		return new(big.Rat).Mul(l.number, new(big.Rat).SetInt(scale)), nil
	}
	return l.number, nil
}

// bindExact adds a value to compare with a type that has no fractions and is not
// without end. A value between two of the type, or beyond all, is no value of it,
// but the comparison still means something: x > 1.5 is x > 1, and x < 300 always
// holds for a byte.
func (b *boundNode) bindExact(r *big.Rat, t arrow.DataType) {
	floor := new(big.Int).Div(r.Num(), r.Denom()) // rounds down, as the denominator is positive
	v, fits := wholeValue(floor, t, b.as)
	switch {
	case t.ID() == arrow.BOOL && (b.op == opEq || b.op == opNe):
		v.iceberg = iceberg.NewLiteral(floor.Sign() > 0)
	case fits && r.IsInt():
	case b.op == opIn:
		return
	case b.op == opEq:
		b.op = opNone
	case b.op == opNe:
		b.op = opAll
	case !fits && (floor.Sign() > 0) == (b.op == opLt || b.op == opLe):
		b.op = opAll
	case !fits:
		b.op = opNone
	case b.op == opLt:
		b.op = opLe
	case b.op == opGe:
		b.op = opGt
	}
	b.values = append(b.values, v)
}

// wholeValue returns a number as a value of a type, and false if it is beyond it.
func wholeValue(v *big.Int, t, as arrow.DataType) (value, bool) {
	i := v.Int64()
	switch as := as.(type) {
	case *arrow.Decimal128Type:
		if v.BitLen() >= 127 {
			return value{}, false
		}
		d := decimal128.FromBigInt(v)
		return value{scalar.NewDecimal128Scalar(d, as), iceberg.NewLiteral(iceberg.Decimal{Val: d, Scale: int(as.Scale)})}, true
	case *arrow.Int32Type:
		if t.ID() == arrow.BOOL { // whose order and sets Iceberg's library does not know
			return value{row: scalar.NewInt32Scalar(int32(i))}, true
		}
		return value{scalar.NewInt32Scalar(int32(i)), iceberg.NewLiteral(i)}, v.IsInt64() && i == int64(int32(i))
	case *arrow.Date32Type:
		return value{scalar.NewDate32Scalar(arrow.Date32(i)), iceberg.NewLiteral(iceberg.Date(i))}, v.IsInt64() && i == int64(int32(i))
	case *arrow.Time64Type:
		return value{scalar.NewTime64Scalar(arrow.Time64(i), as), iceberg.NewLiteral(iceberg.Time(i))}, v.IsInt64()
	case *arrow.TimestampType:
		row := scalar.NewTimestampScalar(arrow.Timestamp(i), as)
		if as.Unit == arrow.Nanosecond {
			return value{row, iceberg.NewLiteral(iceberg.TimestampNano(i))}, v.IsInt64()
		}
		return value{row, iceberg.NewLiteral(iceberg.Timestamp(i))}, v.IsInt64()
	}
	return value{scalar.NewInt64Scalar(i), iceberg.NewLiteral(i)}, v.IsInt64()
}
