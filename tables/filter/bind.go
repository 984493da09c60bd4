package filter

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/float16"

	"github.com/go-partd/partd/tables/internal/schema"
)

// boundNode is a node whose column is known, and whose values have its type.
type boundNode struct {
	op     operator
	parts  []*boundNode
	name   string         // of the column
	as     arrow.DataType // as which it is compared; nil if it cannot be
	values []value
	like   *pattern // of opLike

	against   bool // it is compared to another column
	otherName string
	otherAs   arrow.DataType
}

// value is a value of the type as which a column is compared.
type value struct {
	whole   int64 // of bools, integers, dates and times
	float   float64
	decimal decimal128.Num
	text    string
}

// maxNamed bounds how many columns an error names.
const maxNamed = 30

func bind(n *node, columns *arrow.Schema) (*boundNode, error) {
	out := &boundNode{op: n.op, name: n.column}
	for _, part := range n.parts {
		bound, err := bind(part, columns)
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
	if t, out.as, err = n.find(n.column, columns); err != nil || n.op == opNull {
		return out, err
	}
	if !n.against {
		return out, out.bindValues(n, t)
	}
	var other arrow.DataType
	if other, out.otherAs, err = n.find(n.other, columns); err != nil {
		return nil, err
	}
	out.against, out.otherName = true, n.other
	if !compared(out.as, out.otherAs) {
		return nil, fmt.Errorf("filter: position %d: column %q is %s and column %q %s, which cannot be compared", n.offset+1, n.column, t, n.other, other)
	}
	return out, nil
}

// find returns the type of a column's values, and that as which they are compared.
func (n *node) find(column string, columns *arrow.Schema) (t, as arrow.DataType, err error) {
	found := columns.FieldIndices(column)
	if len(found) != 1 {
		var names []string
		for _, f := range columns.Fields()[:min(columns.NumFields(), maxNamed)] {
			names = append(names, fmt.Sprintf("%q", f.Name))
		}
		if columns.NumFields() > maxNamed {
			names = append(names, "…")
		}
		hint := ""
		if n.against && column == n.other {
			hint = "; a text is in single quotes"
		}
		return nil, nil, fmt.Errorf("filter: position %d: there are %d columns %q; the columns are %s%s",
			n.offset+1, len(found), column, strings.Join(names, ", "), hint)
	}
	t = plainType(columns.Field(found[0]).Type)
	if kept, err := schema.StoredType(t); err == nil && !arrow.IsNested(kept.ID()) {
		as = kept
	}
	return t, as, nil
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
	case arrow.IsBaseBinary(id), id == arrow.STRING_VIEW, id == arrow.BINARY_VIEW,
		slices.Contains([]arrow.Type{arrow.DATE32, arrow.DATE64, arrow.TIMESTAMP, arrow.TIME32, arrow.TIME64}, id):
		return literalText, "a text in single quotes"
	}
	return 0, ""
}

func (b *boundNode) bindValues(n *node, t arrow.DataType) error {
	want, name := kindOf(t)
	if b.as == nil || name == "" {
		return fmt.Errorf("filter: position %d: column %q is %s, which can only be compared by is null and is not null", n.offset+1, n.column, t)
	}
	if n.op == opLike {
		if err := b.bindLike(n.values); err != nil {
			return fmt.Errorf("filter: position %d: column %q is %s: %w", n.offset+1, n.column, t, err)
		}
		return nil
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
	case *arrow.StringType, *arrow.BinaryType:
		v.text = l.text
	case *arrow.Float32Type:
		f, _ := l.number.Float32()
		if t.ID() == arrow.FLOAT16 { // which is compared as float32
			f = float16.New(f).Float32()
		}
		v.float = float64(f)
	case *arrow.Float64Type:
		v.float, _ = l.number.Float64()
	default:
		exact, err := rational(l, t, b.as)
		if err != nil {
			return err
		}
		b.bindExact(exact)
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
func (b *boundNode) bindExact(r *big.Rat) {
	floor := new(big.Int).Div(r.Num(), r.Denom()) // rounds down, as the denominator is positive
	v, fits := wholeValue(floor, b.as)
	switch {
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
func wholeValue(v *big.Int, as arrow.DataType) (value, bool) {
	i := v.Int64()
	switch as.(type) {
	case *arrow.Decimal128Type:
		if v.BitLen() > 127 {
			return value{}, false
		}
		return value{decimal: decimal128.FromBigInt(v)}, true
	case *arrow.Int32Type, *arrow.Date32Type:
		return value{whole: i}, v.IsInt64() && i == int64(int32(i))
	}
	return value{whole: i}, v.IsInt64()
}

// timeValue converts a text to the units as which a column of dates or times is
// compared, not rounded.
func timeValue(l literal, t, as arrow.DataType) (*big.Rat, error) {
	switch as := as.(type) {
	case *arrow.Date32Type:
		return since1970(l, big.NewRat(1, 24*60*60), true)
	case *arrow.TimestampType:
		return since1970(l, perSecond(as.Unit), as.TimeZone != "" || t.ID() == arrow.DATE64)
	case *arrow.Time64Type:
		return sinceMidnight(l, as.Unit)
	}
	return sinceMidnight(l, arrow.Nanosecond) // as Iceberg has no such times, they are whole numbers
}

func perSecond(u arrow.TimeUnit) *big.Rat { return big.NewRat(int64(time.Second/u.Multiplier()), 1) }

// since1970 converts dates and times of day. Without an offset they are UTC, or
// of the column's own unnamed zone, for which one with an offset means nothing.
func since1970(l literal, units *big.Rat, zoned bool) (*big.Rat, error) {
	at, offset, err := ParseTime(l.text)
	switch {
	case err != nil:
		return nil, err
	case offset && !zoned:
		return nil, fmt.Errorf("%s has an offset from UTC, and the column has no zone: leave it out", l)
	}
	seconds := big.NewRat(at.Unix(), 1)
	seconds.Add(seconds, big.NewRat(int64(at.Nanosecond()), 1e9))
	return seconds.Mul(seconds, units), nil
}

// ParseTime parses a date or time as expressions write it, and reports whether the text
// gives an offset from UTC. Without an offset, it is taken as UTC.
func ParseTime(text string) (at time.Time, offset bool, err error) {
	for _, layout := range []string{"2006-01-02", "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04"} {
		if at, err = time.Parse(layout, text); err == nil {
			return at, false, nil
		}
		if at, err = time.Parse(layout+"Z07:00", text); err == nil {
			return at, true, nil
		}
	}
	return at, false, fmt.Errorf("'%.60s' is no date or time: write '2026-01-31', or '2026-01-31 23:59:59.999'", text)
}

func sinceMidnight(l literal, u arrow.TimeUnit) (*big.Rat, error) {
	for _, layout := range []string{"15:04:05", "15:04"} {
		if at, err := time.Parse(layout, l.text); err == nil {
			midnight := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
			nanos := big.NewRat(int64(at.Sub(midnight)), 1e9)
			return nanos.Mul(nanos, perSecond(u)), nil
		}
	}
	return nil, fmt.Errorf("%.60s is no time of day: write '23:59:59.999'", l)
}
