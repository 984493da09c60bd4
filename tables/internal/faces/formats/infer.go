package formats

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/jobs/records"
)

// kinds is the set of types that can represent all of a column's values so far.
type kinds uint16

// Types, in order of preference.
const (
	kindBool kinds = 1 << iota
	kindInt
	kindDecimal // an integer of up to 38 digits in JSON
	kindFloat
	kindDate
	kindTime
	kindZoned // a time with a UTC offset
	kindText
	kindList
	kindObject
	kindNumber // any number in JSON; not a type
	kindAll    = kindNumber<<1 - 1
)

// column collects what is known about a column's type.
type column struct {
	name     string
	kinds    kinds
	ruledOut [16]int64 // for each kind, the number of the line that first ruled it out
	hasValue bool      // at least one value is not null
	hasNanos bool      // a time has more than six fractional digits
	elem     *column
	fields   []*column
	byName   map[string]*column // fields, by name
}

func newColumn(name string) *column { return &column{name: name, kinds: kindAll} }

// restrict rules out all kinds except those in k, because of a value in the given line.
func (c *column) restrict(k kinds, line int64) {
	for lost := c.kinds &^ k; lost != 0; lost &= lost - 1 {
		c.ruledOut[bits.TrailingZeros16(uint16(lost))] = line
	}
	c.kinds, c.hasValue = c.kinds&k, true
}

// maxExactInt is 2^53. float64 represents all integers up to maxExactInt exactly.
const maxExactInt = 1 << 53

// kindsOfText returns the kinds that can represent s without losing digits or leading zeros. nanos reports whether s
// needs nanoseconds.
func kindsOfText(s []byte) (k kinds, nanos bool) {
	k = kindText
	c := s[0]
	switch {
	case isBool(s):
		k |= kindBool
	case isNonFinite(s):
		k |= kindFloat
	case c == '-' || c == '.' || c >= '0' && c <= '9':
		if m, ok := parseMoment(s); ok && m.isComplete && s[4] == '-' {
			return k | kindsOfTime(m), m.digits > 6
		}
		k |= kindsOfNumber(s)
	}
	return k, false
}

func isNonFinite(s []byte) bool {
	switch string(s) {
	case "NaN", "Inf", "+Inf", "-Inf", "inf", "+inf", "-inf":
		return true
	}
	return false
}

// kindsOfNumber returns the kinds, except kindText, that represent a number without losing digits.
func kindsOfNumber(s []byte) kinds {
	digits := bytes.TrimPrefix(s, []byte("-"))
	integerDigits := records.Digits(digits)
	if integerDigits > 1 && digits[0] == '0' {
		return 0
	}
	// fast path for most numbers, which are below maxExactInt
	if rest := digits[integerDigits:]; integerDigits > 0 && integerDigits < 16 {
		if len(rest) == 0 && string(s) != "-0" {
			return kindInt | kindFloat
		}
		if len(rest) > 0 && rest[0] == '.' && records.Digits(rest[1:]) == len(rest)-1 {
			return kindFloat
		}
	}
	if bytes.ContainsAny(s, "_xXpP") {
		return 0
	}
	if bytes.ContainsAny(s, ".eE") {
		if _, err := strconv.ParseFloat(string(s), 64); err != nil {
			return 0
		}
		return kindFloat
	}
	n, err := strconv.ParseInt(string(s), 10, 64)
	switch {
	case err != nil:
		return 0
	case string(s) == "-0":
		return kindFloat
	case n >= -maxExactInt && n <= maxExactInt:
		return kindInt | kindFloat
	}
	return kindInt
}

// kindsOfJSONNumber returns the kinds that represent a JSON number. Only a number with a fraction or an exponent may be
// rounded to a float.
func kindsOfJSONNumber(s []byte) kinds {
	k := kindsOfNumber(s) | kindNumber
	switch {
	case k&kindInt != 0 && k&kindFloat != 0:
		return k | kindDecimal
	case bytes.ContainsAny(s, ".eE"): // If the number is too large, reading it will report that.
		return k | kindFloat
	case string(s) == "-0" || len(bytes.TrimPrefix(s, []byte("-"))) > maxDecimalDigits:
		return k
	}
	if f, err := strconv.ParseFloat(string(s), 64); err == nil && equalsInteger(f, s) {
		k |= kindFloat
	}
	return k | kindDecimal
}

func kindsOfTime(m moment) kinds {
	switch {
	case !m.hasClock:
		return kindDate | kindTime
	case m.hasOffset:
		return kindZoned
	}
	return kindTime
}

var (
	errMixed   = errors.New("the values have several types, which no column type can represent")
	errInexact = errors.New("neither decimal(38,0) nor float64 can represent all numbers without losing digits of an integer: " +
		"write the numbers as strings, or append them to a table whose column is a decimal with enough digits")
)

func (c *column) dataType() (arrow.DataType, error) {
	unit := arrow.Microsecond
	if c.hasNanos {
		unit = arrow.Nanosecond
	}
	switch {
	case !c.hasValue:
		return arrow.BinaryTypes.String, nil
	case c.kinds == 0:
		return nil, fmt.Errorf("up to line %d, %w", slices.Max(c.ruledOut[:]), errMixed)
	case c.kinds == kindNumber:
		return nil, fmt.Errorf("up to line %d, %w", slices.Max(c.ruledOut[:]), errInexact)
	case c.kinds&kindBool != 0:
		return arrow.FixedWidthTypes.Boolean, nil
	case c.kinds&kindInt != 0:
		return arrow.PrimitiveTypes.Int64, nil
	case c.kinds&kindDecimal != 0:
		return &arrow.Decimal128Type{Precision: maxDecimalDigits}, nil
	case c.kinds&kindFloat != 0:
		return arrow.PrimitiveTypes.Float64, nil
	case c.kinds&kindDate != 0:
		return arrow.FixedWidthTypes.Date32, nil
	case c.kinds&kindTime != 0:
		return &arrow.TimestampType{Unit: unit}, nil
	case c.kinds&kindZoned != 0:
		return &arrow.TimestampType{Unit: unit, TimeZone: "UTC"}, nil
	case c.kinds&kindText != 0:
		return arrow.BinaryTypes.String, nil
	case c.kinds&kindList != 0:
		elem, err := c.elem.dataType()
		if err != nil {
			return nil, err
		}
		return arrow.ListOf(elem), nil
	}
	fields, err := fieldsOf("field", c.fields)
	if err != nil {
		return nil, err
	}
	return arrow.StructOf(fields...), nil
}

// fieldsOf returns the fields for columns. term is the word for a field in errors, such as "column".
func fieldsOf(term string, columns []*column) ([]arrow.Field, error) {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		t, err := c.dataType()
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", term, c.name, err)
		}
		fields[i] = arrow.Field{Name: c.name, Type: t, Nullable: true}
	}
	return fields, nil
}

// schemaOf returns the schema of columns. A column in known has the type that it has there.
func schemaOf(columns []*column, known *arrow.Schema) (*arrow.Schema, error) {
	var fields []arrow.Field
	for _, c := range columns {
		if known != nil && known.HasField(c.name) {
			fields = append(fields, arrow.Field{Name: c.name, Type: known.Field(known.FieldIndices(c.name)[0]).Type, Nullable: true})
			continue
		}
		inferred, err := fieldsOf("column", []*column{c})
		if err != nil {
			return nil, err
		}
		fields = append(fields, inferred...)
	}
	return arrow.NewSchema(fields, nil), nil
}

// field returns the nested column called name. It adds the column if it does not exist. index is the likely index.
func (c *column) field(name []byte, index int) (*column, error) {
	// Most lines have their members in the same order.
	if index < len(c.fields) && c.fields[index].name == string(name) {
		return c.fields[index], nil
	}
	if existing := c.byName[string(name)]; existing != nil {
		return existing, nil
	}
	if len(c.fields) == maxColumns {
		return nil, fmt.Errorf("%w: more than %d columns", partd.ErrTooLarge, maxColumns)
	}
	if c.byName == nil {
		c.byName = map[string]*column{}
	}
	f := newColumn(string(name))
	c.byName[f.name] = f
	c.fields = append(c.fields, f)
	return f, nil
}

// merge restricts c to the kinds of later, which is the same column in a later chunk or file. It adds later's nested
// columns to c and returns their number, at all levels.
func (c *column) merge(later *column) (n int, err error) {
	for lost := c.kinds &^ later.kinds; lost != 0; lost &= lost - 1 {
		i := bits.TrailingZeros16(uint16(lost))
		c.ruledOut[i] = later.ruledOut[i]
	}
	c.kinds, c.hasValue, c.hasNanos = c.kinds&later.kinds, c.hasValue || later.hasValue, c.hasNanos || later.hasNanos
	if later.elem != nil {
		if c.elem == nil {
			c.elem = newColumn(c.name)
		}
		n, err = c.elem.merge(later.elem)
		if err != nil {
			return 0, err
		}
	}
	for i, f := range later.fields {
		field, err := c.field([]byte(f.name), i)
		if err != nil {
			return 0, err
		}
		nested, err := field.merge(f)
		n += 1 + nested
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}
