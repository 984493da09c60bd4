package formats

import (
	"bytes"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// integerParser returns a function that parses an integer or a duration.
func integerParser(typeInfo *arrowtype.Row, t arrow.DataType) func([]byte) (int64, bool) {
	if d, ok := t.(*arrow.DurationType); ok {
		return func(s []byte) (int64, bool) { return parseDuration(s, d.Unit) }
	}
	bits := t.(arrow.FixedWidthDataType).BitWidth()
	if typeInfo.IsUnsigned() {
		return func(s []byte) (int64, bool) {
			n, err := strconv.ParseUint(strings.TrimPrefix(string(s), "+"), 10, bits) // Accept a plus sign, as ParseInt does.
			return int64(n), err == nil
		}
	}
	return func(s []byte) (int64, bool) {
		n, err := strconv.ParseInt(string(s), 10, bits)
		return n, err == nil
	}
}

// timeParser returns a function that parses a date, a time of day or a timestamp.
func timeParser(typeInfo *arrowtype.Row, t arrow.DataType) func([]byte) (int64, bool) {
	switch unit := arrow.Millisecond; {
	case t.ID() == arrow.DATE32:
		return parseDate32
	case typeInfo.Kind == arrowtype.Time:
		unit = t.(arrow.TemporalWithUnit).TimeUnit()
		return func(s []byte) (int64, bool) { return parseClock(s, unit) }
	default:
		timestamp, isTimestamp := t.(*arrow.TimestampType)
		if isTimestamp {
			unit = timestamp.Unit
		}
		return func(s []byte) (int64, bool) { return parseTimestamp(s, unit, isTimestamp && timestamp.TimeZone != "") }
	}
}

// parseBool parses a boolean as 0 or 1.
func parseBool(s []byte) (int64, bool) {
	switch string(s) {
	case "true", "True", "TRUE":
		return 1, true
	case "false", "False", "FALSE":
		return 0, true
	}
	return 0, false
}

func isBool(s []byte) bool {
	_, ok := parseBool(s)
	return ok
}

// maxDecimalDigits is the maximum precision of decimals.
const maxDecimalDigits = 38

// parseFloat parses a float with the given number of bits. It rounds numbers with a fraction or an exponent, and
// rejects integers that the float cannot represent exactly.
func parseFloat(s []byte, bits int) (float64, bool) {
	f, err := strconv.ParseFloat(string(s), bits)
	if err != nil || records.PlainValue(s) < len(s) && bytes.ContainsAny(s, "_xX") { // ParseFloat accepts underscores and hexadecimal numbers
		return 0, false
	}
	return f, !losesInteger(s, f, bits)
}

// losesInteger reports whether s is an integer that differs from f. It returns false if s has the shortest digits that
// parse as f, because JavaScript, for example, writes 2^60 as 1152921504606847000.
func losesInteger(s []byte, f float64, bits int) bool {
	exact := 1 << 24 // float32 represents all integers up to here.
	if bits == 64 {
		exact = maxExactInt
	}
	if math.Abs(f) < float64(exact) || bytes.ContainsAny(s, ".eEnN") {
		return false
	}
	return !equalsInteger(f, s) && string(s) != strconv.FormatFloat(f, 'f', -1, bits)
}

// equalsInteger reports whether f, the finite float nearest to s, equals the integer s.
func equalsInteger(f float64, s []byte) bool {
	n, ok := new(big.Int).SetString(string(s), 10)
	return ok && new(big.Float).SetInt(n).Cmp(big.NewFloat(f)) == 0
}

// parseFloat16 is like parseFloat, but returns the nearest float16.
func parseFloat16(s []byte) (float64, bool) {
	f, ok := parseFloat(s, 64)
	rounded := float64(arrowtype.FromFloat16(arrowtype.ToFloat16(f)))
	isInteger := math.Abs(f) < 1<<16 && f == math.Trunc(f) && !bytes.ContainsAny(s, ".eE")
	return rounded, ok && math.IsInf(rounded, 0) == math.IsInf(f, 0) && (!isInteger || rounded == f)
}

// decimalParser returns a function that parses a decimal. It rejects values that have more fractional digits than the
// type's scale.
func decimalParser(t arrow.DecimalType) func([]byte) (decimal128.Num, bool) {
	return func(s []byte) (v decimal128.Num, ok bool) {
		digits, ok := scaleDecimal(s, int(t.GetScale()), int(t.GetPrecision()))
		if !ok {
			return v, false
		}
		n, ok := new(big.Int).SetString(digits, 10)
		if !ok {
			return v, false
		}
		return decimal128.FromBigInt(n), true
	}
}

// scaleDecimal returns the signed digits of s times 10^scale. It returns false if s is not a number, or if the result
// is not an integer of at most precision digits.
func scaleDecimal(s []byte, scale, precision int) (digits string, ok bool) {
	number, exponent, scientific := strings.Cut(strings.ToLower(string(s)), "e")
	if scientific {
		e, err := strconv.Atoi(exponent)
		if err != nil || e < -1000 || e > 1000 {
			return "", false
		}
		scale += e
	}
	sign := ""
	if number != "" && (number[0] == '-' || number[0] == '+') {
		sign, number = strings.TrimPrefix(number[:1], "+"), number[1:]
	}
	whole, fraction, _ := strings.Cut(number, ".")
	if whole+fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return "", false
	}
	significant := whole + strings.TrimRight(fraction, "0")
	if zeros := scale - len(significant) + len(whole); zeros >= 0 {
		significant += strings.Repeat("0", zeros)
	} else if trimmed := strings.TrimRight(significant, "0"); trimmed == "" || len(significant)+zeros >= len(trimmed) { // only zeros are cut off
		significant = significant[:max(0, len(significant)+zeros)]
	} else {
		return "", false
	}
	significant = strings.TrimLeft(significant, "0")
	return sign + "0" + significant, len(significant) <= precision
}

// appendDecimal appends a decimal without an exponent and without trailing zeros.
func appendDecimal(out []byte, n *big.Int, t arrow.DataType) []byte {
	scale := int(t.(arrow.DecimalType).GetScale())
	digits := new(big.Int).Abs(n).String()
	if pad := scale + 1 - len(digits); pad > 0 {
		digits = strings.Repeat("0", pad) + digits
	}
	if n.Sign() < 0 {
		out = append(out, '-')
	}
	point := len(digits) - scale
	out = append(out, digits[:point]...)
	if fraction := strings.TrimRight(digits[point:], "0"); fraction != "" {
		out = append(append(out, '.'), fraction...)
	}
	return out
}
