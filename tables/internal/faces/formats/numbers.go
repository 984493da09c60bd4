package formats

import (
	"bytes"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/float16"

	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

func signedParser[V int8 | int16 | int32 | int64](b interface{ Append(V) }) func([]byte) bool {
	return func(s []byte) bool {
		n, err := strconv.ParseInt(string(s), 10, 64)
		return addIf(b, V(n), err == nil && int64(V(n)) == n)
	}
}

func unsignedParser[V uint8 | uint16 | uint32 | uint64](b interface{ Append(V) }) func([]byte) bool {
	return func(s []byte) bool {
		n, err := strconv.ParseUint(strings.TrimPrefix(string(s), "+"), 10, 64) // Accept a plus sign, as ParseInt does.
		return addIf(b, V(n), err == nil && uint64(V(n)) == n)
	}
}

func isBool(s []byte) bool {
	switch string(s) {
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return true
	}
	return false
}

// maxDecimalDigits is the maximum precision of decimals.
const maxDecimalDigits = 38

// parseFloat parses a float with the given number of bits. It rounds numbers with a fraction or an exponent, and
// rejects integers that the float cannot represent exactly.
func parseFloat(s []byte, bits int) (float64, bool) {
	f, err := strconv.ParseFloat(string(s), bits)
	if err != nil || records.PlainValue(s) < len(s) && bytes.ContainsAny(s, "_xX") {
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

func parseFloat16(s []byte) (float16.Num, bool) {
	f, ok := parseFloat(s, 64)
	half := arrowtype.ToFloat16(f)
	roundTripped := float64(arrowtype.FromFloat16(half))
	isInteger := math.Abs(f) < 1<<16 && f == math.Trunc(f) && !bytes.ContainsAny(s, ".eE")
	return half, ok && math.IsInf(roundTripped, 0) == math.IsInf(f, 0) && (!isInteger || roundTripped == f)
}

// decimalParser returns a function that parses a decimal and adds it to b. It rejects values that have more fractional
// digits than the type's scale.
func decimalParser(b array.Builder, t arrow.DecimalType) func([]byte) bool {
	return func(s []byte) bool {
		digits, ok := scaleDecimal(s, int(t.GetScale()), int(t.GetPrecision()))
		if !ok {
			return false
		}
		n, ok := new(big.Int).SetString(digits, 10)
		if !ok {
			return false
		}
		switch b := b.(type) {
		case *array.Decimal32Builder:
			b.Append(decimal.Decimal32(n.Int64()))
		case *array.Decimal64Builder:
			b.Append(decimal.Decimal64(n.Int64()))
		case *array.Decimal128Builder:
			b.Append(decimal128.FromBigInt(n))
		default:
			return false
		}
		return true
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
	} else if trimmed := strings.TrimRight(significant, "0"); trimmed == "" || len(significant)+zeros >= len(trimmed) {
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
