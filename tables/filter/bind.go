package filter

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/float16"

	"github.com/go-partd/partd/internal/base/where"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// boundNode is a node whose values are converted to the type of its column in a schema.
type boundNode struct {
	op     operator
	parts  []*boundNode
	name   string         // name of the column
	typ    arrow.DataType // type in which the column is compared; nil if it cannot be compared
	values []value
	like   *where.Pattern // pattern of where.Like; nil for other operators

	comparesColumns bool // whether the column is compared with column otherName instead of values
	otherName       string
	otherType       arrow.DataType
}

// value is a literal or a bound, converted to the type in which a column is compared. Only the field for this type is
// set.
type value struct {
	integer int64 // for bools, integers, dates and times
	float   float64
	decimal decimal128.Num
	text    string
}

// maxListedColumns is the maximum number of columns that an error lists.
const maxListedColumns = 30

// bind binds a node and its parts to the columns of a schema. An error names the node's position in the expression.
func bind(n *node, columns *arrow.Schema) (*boundNode, error) {
	out := &boundNode{op: n.Op, name: n.Column}
	for _, part := range n.Parts {
		bound, err := bind(part, columns)
		if err != nil {
			return nil, err
		}
		out.parts = append(out.parts, bound)
	}
	if len(n.Parts) > 0 {
		return out, nil
	}
	var err error
	var columnType arrow.DataType
	columnType, out.typ, err = columnTypes(n, n.Column, columns)
	if err != nil || n.Op == where.Null {
		return out, err
	}
	if !n.IsColumn {
		return out, out.bindValues(n, columnType)
	}
	var otherColumnType arrow.DataType
	otherColumnType, out.otherType, err = columnTypes(n, n.Other, columns)
	if err != nil {
		return nil, err
	}
	out.comparesColumns, out.otherName = true, n.Other
	if !canCompare(out.typ, out.otherType) {
		return nil, fmt.Errorf("filter: position %d: column %q of type %s and column %q of type %s cannot be compared", n.Offset+1, n.Column, columnType, n.Other, otherColumnType)
	}
	return out, nil
}

// columnTypes returns t, the type of a column's values, and typ, the type in which the values are compared. typ is nil
// if they cannot be compared.
func columnTypes(n *node, column string, columns *arrow.Schema) (t, typ arrow.DataType, err error) {
	indices := columns.FieldIndices(column)
	if len(indices) != 1 {
		var names []string
		for _, f := range columns.Fields()[:min(columns.NumFields(), maxListedColumns)] {
			names = append(names, fmt.Sprintf("%q", f.Name))
		}
		if columns.NumFields() > maxListedColumns {
			names = append(names, "…")
		}
		hint := ""
		if n.IsColumn && column == n.Other {
			hint = "; put text in single quotes"
		}
		return nil, nil, fmt.Errorf("filter: position %d: %d columns have the name %q; the columns are %s%s",
			n.Offset+1, len(indices), column, strings.Join(names, ", "), hint)
	}
	t = arrowtype.Unwrap(columns.Field(indices[0]).Type)
	if stored, err := schema.StoredType(t); err == nil && !arrow.IsNested(stored.ID()) {
		typ = stored
	}
	return t, typ, nil
}

// kindOf returns the kind of literals with which columns of type t are compared, and the kind's description.
// If columns of the type cannot be compared, the description is "".
func kindOf(t arrow.DataType) (kind where.Kind, name string) {
	row := arrowtype.Of(t)
	switch {
	case row.Kind == arrowtype.Bool:
		return where.Bool, "true or false"
	case row.IsNumber(), row.Kind == arrowtype.Duration:
		return where.Number, "a number"
	case row.IsTemporal(), row.Native == reflect.String:
		return where.Text, "text in single quotes"
	}
	return 0, ""
}

func (b *boundNode) bindValues(n *node, t arrow.DataType) error {
	want, name := kindOf(t)
	if b.typ == nil || name == "" {
		return fmt.Errorf("filter: position %d: column %q has type %s, which supports only \"is null\" and \"is not null\"", n.Offset+1, n.Column, t)
	}
	if n.Op == where.Like {
		if err := b.bindLike(n.Values); err != nil {
			return fmt.Errorf("filter: position %d: column %q has type %s: %w", n.Offset+1, n.Column, t, err)
		}
		return nil
	}
	for _, l := range n.Values {
		if l.Kind != want {
			return fmt.Errorf("filter: position %d: column %q has type %s: compare it with %s, not with %.40s", l.Offset+1, n.Column, t, name, l)
		}
		if err := b.bindValue(l, t); err != nil {
			return fmt.Errorf("filter: position %d: column %q has type %s: %w", l.Offset+1, n.Column, t, err)
		}
	}
	if b.op == where.In && len(b.values) == 0 {
		b.op = opNone
	}
	return nil
}

func (b *boundNode) bindValue(l literal, t arrow.DataType) error {
	var v value
	switch row := arrowtype.Of(b.typ); {
	case row.Native == reflect.String:
		v.text = l.Text
	case row.Native == reflect.Float32:
		f, _ := l.Number.Float32()
		if t.ID() == arrow.FLOAT16 { // round the literal to float16, because the column is compared as float32
			f = float16.New(f).Float32()
		}
		v.float = float64(f)
	case row.Kind == arrowtype.Float:
		v.float, _ = l.Number.Float64()
	default:
		exact, err := rational(l, t, b.typ)
		if err != nil {
			return err
		}
		b.bindExact(exact)
		return nil
	}
	b.values = append(b.values, v)
	return nil
}

// rational returns a literal's exact value, in units of typ, the type in which a column of type t is compared.
func rational(l literal, t, typ arrow.DataType) (*big.Rat, error) {
	switch {
	case l.Kind == where.Text:
		return timeValue(l, t, typ)
	case l.Kind == where.Bool:
		return big.NewRat(int64(toInt(l.Text == "true")), 1), nil
	}
	if d, ok := typ.(*arrow.Decimal128Type); ok {
		scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.Scale)), nil)
		return new(big.Rat).Mul(l.Number, new(big.Rat).SetInt(scale)), nil
	}
	return l.Number, nil
}

// bindExact adds r to the node's values, for a column whose values are whole numbers. If r is not a whole number or is
// outside the type's range, bindExact changes the operator: x < 1.5 becomes x <= 1, and x < r becomes opAll if r is
// above the range.
func (b *boundNode) bindExact(r *big.Rat) {
	floor := new(big.Int).Div(r.Num(), r.Denom()) // rounds down, because the denominator is positive
	v, inRange := wholeValue(floor, b.typ)
	switch {
	case inRange && r.IsInt():
	case b.op == where.In:
		return
	case b.op == where.Eq:
		b.op = opNone
	case b.op == where.Ne:
		b.op = opAll
	case !inRange && (floor.Sign() > 0) == (b.op == where.Lt || b.op == where.Le):
		b.op = opAll
	case !inRange:
		b.op = opNone
	case b.op == where.Lt:
		b.op = where.Le
	case b.op == where.Ge:
		b.op = where.Gt
	}
	b.values = append(b.values, v)
}

// wholeValue converts an integer to a value of type typ and reports whether it is in the type's range.
func wholeValue(v *big.Int, typ arrow.DataType) (value, bool) {
	i := v.Int64()
	switch row := arrowtype.Of(typ); {
	case row.Decimals != nil:
		if v.BitLen() > 127 {
			return value{}, false
		}
		return value{decimal: decimal128.FromBigInt(v)}, true
	case row.Native == reflect.Int32:
		return value{integer: i}, v.IsInt64() && i == int64(int32(i))
	}
	return value{integer: i}, v.IsInt64()
}

// timeValue converts a date or time to an exact number, in the units of typ, the type in which the column is compared.
func timeValue(l literal, t, typ arrow.DataType) (*big.Rat, error) {
	switch arrowtype.KindOf(typ) {
	case arrowtype.Date:
		return since1970(l, big.NewRat(1, 24*60*60), "UTC")
	case arrowtype.Timestamp:
		typ := typ.(*arrow.TimestampType)
		zone := typ.TimeZone // stored times are in UTC, so the zone is in the column's own type
		if logical, ok := t.(*arrow.TimestampType); ok {
			zone = logical.TimeZone
		} else if t.ID() == arrow.DATE64 {
			zone = "UTC"
		}
		return since1970(l, unitsPerSecond(typ.Unit), zone)
	case arrowtype.Time:
		return sinceMidnight(l, typ.(*arrow.Time64Type).Unit)
	}
	// The column is stored as integers, because Iceberg has no nanosecond times of day.
	return sinceMidnight(l, arrow.Nanosecond)
}

func unitsPerSecond(u arrow.TimeUnit) *big.Rat {
	return big.NewRat(int64(time.Second/u.Multiplier()), 1)
}

// since1970 converts a date or time to the number of time units since 1970. A second has perSecond units. Text without
// an offset from UTC is in zone. If zone is "", text with an offset other than utcOffset is an error.
func since1970(l literal, perSecond *big.Rat, zone string) (*big.Rat, error) {
	tm, hasOffset, err := ParseTime(l.Text)
	isUTC := strings.HasSuffix(l.Text, utcOffset)
	switch {
	case err != nil:
		return nil, err
	case hasOffset && zone == "" && !isUTC:
		return nil, fmt.Errorf("%s has an offset from UTC, but the column has no time zone: omit the offset", l)
	case !hasOffset && zone != "":
		tm, err = inZone(tm, zone)
		if err != nil {
			return nil, fmt.Errorf("%s %w", l, err)
		}
	}
	seconds := big.NewRat(tm.Unix(), 1)
	seconds.Add(seconds, big.NewRat(int64(tm.Nanosecond()), 1e9))
	return seconds.Mul(seconds, perSecond), nil
}

// inZone returns the moment at which clocks in a time zone show the date and time that clock has in UTC. It returns an
// error if they show it twice or never, because clocks change.
func inZone(clock time.Time, zone string) (moment time.Time, err error) {
	location, err := (&arrow.TimestampType{TimeZone: zone}).GetZone()
	if err != nil {
		return moment, fmt.Errorf("cannot be read in the column's time zone %q: add an offset such as +01:00, or Z: %w", zone, err)
	}
	var moments []time.Time
	for _, hours := range []time.Duration{-36, 36} { // try the offsets before and after a nearby clock change
		_, offset := clock.Add(hours * time.Hour).In(location).Zone()
		moment = clock.Add(-time.Duration(offset) * time.Second)
		if _, actual := moment.In(location).Zone(); actual == offset && !slices.ContainsFunc(moments, moment.Equal) {
			moments = append(moments, moment)
		}
	}
	if len(moments) != 1 {
		return moment, fmt.Errorf("occurs %d times in the column's time zone %s, because clocks change: add an offset such as +01:00, or Z", len(moments), zone)
	}
	return moments[0], nil
}

// ParseTime parses a date or time in the syntax of expressions and reports whether the text has an offset from
// UTC. Without an offset, the result has the text's date and time in UTC.
func ParseTime(text string) (t time.Time, hasOffset bool, err error) { return where.ParseTime(text) }

// sinceMidnight converts a time of day to the number of units since midnight.
func sinceMidnight(l literal, u arrow.TimeUnit) (*big.Rat, error) {
	for _, layout := range []string{"15:04:05", "15:04"} {
		if at, err := time.Parse(layout, l.Text); err == nil {
			midnight := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
			nanos := big.NewRat(int64(at.Sub(midnight)), 1e9)
			return nanos.Mul(nanos, unitsPerSecond(u)), nil
		}
	}
	return nil, fmt.Errorf("%.60s is not a time of day: write, for example, '23:59:59.999'", l)
}

// bindLike parses the values of the operator "like".
func (b *boundNode) bindLike(values []literal) (err error) {
	if b.typ.ID() != arrow.STRING {
		return errors.New("like applies only to text columns")
	}
	b.like, err = where.ParsePattern(values)
	return err
}
