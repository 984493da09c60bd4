package schema

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// typesByName maps the names that Parse accepts without parameters to their types.
var typesByName = func() map[string]arrow.DataType {
	types := map[string]arrow.DataType{
		"string": arrow.BinaryTypes.String, "float": arrow.PrimitiveTypes.Float32, "double": arrow.PrimitiveTypes.Float64,
	}
	for _, t := range []arrow.DataType{
		arrow.FixedWidthTypes.Boolean, arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.Binary, arrow.BinaryTypes.LargeBinary,
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64,
		arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64,
		arrow.FixedWidthTypes.Float16, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
		arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Date64, arrow.FixedWidthTypes.Time32s, arrow.FixedWidthTypes.Time32ms,
		arrow.FixedWidthTypes.Time64us, arrow.FixedWidthTypes.Time64ns, arrow.FixedWidthTypes.Duration_s, arrow.FixedWidthTypes.Duration_ms,
		arrow.FixedWidthTypes.Duration_us, arrow.FixedWidthTypes.Duration_ns,
	} {
		types[t.String()] = t
	}
	return types
}()

var (
	timestampText = regexp.MustCompile(`^timestamp\[(s|ms|us|ns)(?:, ?tz=([^\]]+))?\]$`)
	decimalText   = regexp.MustCompile(`^decimal(?:128)?\((\d+), ?(\d+)\)$`)
	units         = map[string]arrow.TimeUnit{"s": arrow.Second, "ms": arrow.Millisecond, "us": arrow.Microsecond, "ns": arrow.Nanosecond}
)

// Parse parses the name of a type that is not nested, such as int64, timestamp[us, tz=UTC] or decimal(38, 2).
func Parse(text string) (arrow.DataType, error) {
	if t := typesByName[text]; t != nil {
		return t, nil
	}
	if m := timestampText.FindStringSubmatch(text); m != nil {
		return &arrow.TimestampType{Unit: units[m[1]], TimeZone: m[2]}, nil
	}
	if m := decimalText.FindStringSubmatch(text); m != nil {
		precision, err := strconv.Atoi(m[1])
		scale, err2 := strconv.Atoi(m[2])
		if err == nil && err2 == nil && precision >= 1 && precision <= 38 && scale <= precision {
			return &arrow.Decimal128Type{Precision: int32(precision), Scale: int32(scale)}, nil
		}
	}
	return nil, fmt.Errorf("unknown type %.100q: use a type such as int64, float64, utf8, bool, date32, timestamp[us], timestamp[ns, tz=UTC] or decimal(18, 2)", text)
}

// CanWiden reports whether the type to includes every value of the type from: it has larger integers or floats, or
// decimals with more digits. Every type includes nulls. CanWiden also returns true if from is an integer type and to is
// float64, but then the caller must check that each value is exact.
func CanWiden(from, to arrow.DataType) bool {
	f, t := arrowtype.Of(from), arrowtype.Of(to)
	bits := func(t arrow.DataType) int { return t.(arrow.FixedWidthDataType).BitWidth() }
	switch {
	case f.Kind == arrowtype.Null:
		return t.Kind != arrowtype.Null
	case f.Kind == arrowtype.Decimal && from.ID() == to.ID():
		f, t := from.(arrow.DecimalType), to.(arrow.DecimalType)
		return from.ID() == arrow.DECIMAL128 && f.GetScale() == t.GetScale() && f.GetPrecision() < t.GetPrecision()
	case f.Kind == arrowtype.Integer && to.ID() == arrow.FLOAT64:
		return from.ID() != arrow.UINT64
	case f.Kind == arrowtype.Integer && t.Kind == f.Kind:
		return bits(from) < bits(to) && (f.IsUnsigned() || !t.IsUnsigned()) && to.ID() != arrow.UINT64
	}
	return f.Kind == arrowtype.Float && t.Kind == f.Kind && bits(from) < bits(to)
}
