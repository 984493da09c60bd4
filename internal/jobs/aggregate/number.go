package aggregate

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"unsafe"
)

// Number is an exact integer of up to 27 digits, or a 64-bit floating-point number.
type Number struct {
	Float bool   // whether the number is a floating-point number
	Lo    uint64 // low word of the integer in two's complement, or bits of the float
	Hi    uint64 // high word of the integer
}

// maxDigits is the maximum length of an exact integer, so that a sum of 2^37 integers fits in 128
// bits. Longer integers are parsed as floating-point numbers.
const maxDigits = 27

var exactPowers = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// CommaHint returns advice to use a decimal point if text would be a number with a point in place of its only comma.
// Otherwise it returns "".
func CommaHint(text []byte) string {
	if bytes.Count(text, []byte(",")) != 1 {
		return ""
	}
	number := bytes.Replace(text, []byte(","), []byte("."), 1)
	if _, ok := ParseNumber(number); !ok {
		return ""
	}
	return fmt.Sprintf(": numbers need a decimal point, as in %s", number)
}

// ParseNumber parses a decimal number: digits with an optional sign, point and exponent. It ignores
// spaces around the number. It returns false for other text, including infinities and NaN.
func ParseNumber(text []byte) (Number, bool) {
	for len(text) > 0 && text[0] == ' ' {
		text = text[1:]
	}
	for len(text) > 0 && text[len(text)-1] == ' ' {
		text = text[:len(text)-1]
	}
	digits := text
	negative := false
	if len(digits) > 0 && (digits[0] == '-' || digits[0] == '+') {
		negative = digits[0] == '-'
		digits = digits[1:]
	}
	// Fast path: parse up to 18 digits, with or without a point, in one pass.
	var m uint64
	point := -1
	for i, c := range digits {
		if d := c - '0'; d <= 9 {
			m = m*10 + uint64(d)
			continue
		}
		if c != '.' || point >= 0 {
			return parseGeneral(text, digits, negative)
		}
		point = i
	}
	n := len(digits)
	switch {
	case n == 0 || n > 19 || point < 0 && n > 18 || point >= 0 && n == 1:
		return parseGeneral(text, digits, negative)
	case point < 0:
		return Int(m, negative), true
	case m < 1<<53:
		// Both operands are exact, so the quotient is the nearest float.
		f := float64(m) / exactPowers[n-1-point]
		if negative {
			f = -f
		}
		return Float(f), true
	}
	return parseGeneral(text, digits, negative)
}

// parseGeneral is ParseNumber without the fast path. text has no spaces around it; digits is text
// without its sign.
func parseGeneral(text, digits []byte, negative bool) (Number, bool) {
	isInteger := len(digits) > 0
	for _, c := range digits {
		switch {
		case c >= '0' && c <= '9':
		case c == '.' || c == 'e' || c == 'E' || c == '-' || c == '+':
			isInteger = false
		default:
			return Number{}, false // reject hexadecimal, infinities and NaN, which ParseFloat accepts
		}
	}
	for isInteger && len(digits) > 1 && digits[0] == '0' {
		digits = digits[1:]
	}
	if isInteger && len(digits) <= maxDigits {
		var hi, lo uint64
		for _, c := range digits {
			var carry uint64
			high, low := bits.Mul64(lo, 10)
			lo, carry = bits.Add64(low, uint64(c-'0'), 0)
			hi = hi*10 + high + carry
		}
		n := Number{Lo: lo, Hi: hi}
		if negative {
			n.Lo, n.Hi = negate(n.Lo, n.Hi)
		}
		return n, true
	}
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(text), len(text)), 64)
	if err != nil || math.IsInf(f, 0) {
		return Number{}, false
	}
	return Float(f), true
}

// Int returns m or, if negative is set, -m.
func Int(m uint64, negative bool) Number {
	if !negative {
		return Number{Lo: m}
	}
	lo, hi := negate(m, 0)
	return Number{Lo: lo, Hi: hi}
}

// Float returns f as a Number. -0 becomes 0, so that equal floats have the same bits.
func Float(f float64) Number {
	if f == 0 {
		f = 0
	}
	return Number{Float: true, Lo: math.Float64bits(f)}
}

func negate(lo, hi uint64) (uint64, uint64) {
	lo, borrow := bits.Sub64(0, lo, 0)
	hi, _ = bits.Sub64(0, hi, borrow)
	return lo, hi
}

// Float64 returns the float64 nearest to n.
func (n Number) Float64() float64 {
	if n.Float {
		return math.Float64frombits(n.Lo)
	}
	if n.Hi == uint64(int64(n.Lo)>>63) {
		return float64(int64(n.Lo))
	}
	f, _ := new(big.Float).SetInt(n.big()).Float64()
	return f
}

// floats returns two floats whose sum is n, which must be an integer. high is the float nearest to
// n. The sum is exact if n has at most 106 bits.
func (n Number) floats() (high, low float64) {
	if x, exact := n.ExactFloat64(); exact {
		return x, 0
	}
	high = n.Float64()
	rest, _ := big.NewFloat(high).Int(nil)
	low, _ = new(big.Float).SetInt(rest.Sub(n.big(), rest)).Float64()
	return high, low
}

func (n Number) big() *big.Int {
	lo, hi := n.Lo, n.Hi
	negative := int64(hi) < 0
	if negative {
		lo, hi = negate(lo, hi)
	}
	b := new(big.Int).SetUint64(hi)
	b.Lsh(b, 64).Or(b, new(big.Int).SetUint64(lo))
	if negative {
		b.Neg(b)
	}
	return b
}

// Compare compares n and o exactly and returns -1, 0 or 1.
func (n Number) Compare(o Number) int {
	switch {
	case n.Float && o.Float:
		return cmp.Compare(math.Float64frombits(n.Lo), math.Float64frombits(o.Lo))
	case n.Float:
		return -o.Compare(n)
	case o.Float:
		return new(big.Float).SetInt(n.big()).Cmp(big.NewFloat(math.Float64frombits(o.Lo)))
	case n.Hi != o.Hi:
		return cmp.Compare(int64(n.Hi), int64(o.Hi))
	}
	return cmp.Compare(n.Lo, o.Lo)
}

// Append appends n in decimal. A float gets the fewest digits that identify it.
func (n Number) Append(dst []byte) []byte {
	switch {
	case n.Float:
		return appendFloat(dst, math.Float64frombits(n.Lo))
	case n.Hi == uint64(int64(n.Lo)>>63):
		return strconv.AppendInt(dst, int64(n.Lo), 10)
	}
	return n.big().Append(dst, 10)
}

// appendFloat appends f in the format of encoding/json, which has an exponent if f is very small or
// very large.
func appendFloat(dst []byte, f float64) []byte {
	if out, ok := appendMillionths(dst, f); ok {
		return out
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, 64)
}

// appendMillionths is a faster appendFloat. It returns false unless f is the float nearest to a
// decimal of up to 15 digits with at most six after the point. No two such decimals have the same
// nearest float, so the decimal without trailing zeros is the shortest that identifies f.
func appendMillionths(dst []byte, f float64) ([]byte, bool) {
	const million = 1_000_000
	m := int64(0)
	if x := math.Abs(f) * million; x < 1e15 {
		m = int64(x + 0.5)
	}
	if m == 0 || float64(m)/million != math.Abs(f) {
		return dst, false
	}
	if f < 0 {
		dst = append(dst, '-')
	}
	dst = strconv.AppendInt(dst, m/million, 10)
	m %= million
	if m == 0 {
		return dst, true
	}
	dst = append(dst, ".000000"...)
	for i := len(dst) - 1; m > 0; i-- {
		dst[i] = '0' + byte(m%10)
		m /= 10
	}
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst, true
}

// ExactFloat64 returns n as a float64. It returns false if float64 cannot represent n exactly.
func (n Number) ExactFloat64() (float64, bool) {
	if n.Float {
		return math.Float64frombits(n.Lo), true
	}
	const maxExact = 1 << 53
	x := int64(n.Lo)
	return float64(x), n.Hi == uint64(x>>63) && -maxExact <= x && x <= maxExact
}
